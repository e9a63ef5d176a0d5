import keras
import numpy as np
import pytest

from keras_finetune import models
from keras_finetune.models.features_at import PooledPosition, features_at

pytestmark = pytest.mark.backends

TRANSFORMERS = [
    "encoder",
    "encoder_prenorm_rotary",
    "decoder_gpt2",
    "decoder_llama",
    "decoder_qwen",
    "encoder_decoder",
    "encoder_decoder_postnorm",
]


@pytest.fixture
def positions():
    return np.array([[4, 0], [2, 2], [0, 0]], "int32")


@pytest.fixture
def both(random_weights):
    """A model that gives features at positions in two ways: computed there, and taken from all."""

    def make(backbone: keras.Model) -> keras.Model:
        random_weights(backbone)
        places = keras.Input((None,), dtype="int32", name="positions")
        taken = models.GatherPositions()(backbone.output, places)
        found = features_at(backbone.output, places)
        assert found.shape == taken.shape
        return keras.Model({**backbone.input, "positions": places}, [found, taken])

    return make


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_equal_features_taken_from_all(name, builders, both, rows, positions):
    model = both(builders[name]())
    inputs = rows(model) | {"positions": positions}
    found, taken = (keras.ops.convert_to_numpy(x) for x in model.predict_on_batch(inputs))
    np.testing.assert_allclose(found, taken, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["encoder", "decoder_llama"])
def test_equal_gradients(name, builders, both, rows, positions):
    weights = []
    for keep in (0, 1):
        keras.utils.set_random_seed(0)
        model = both(builders[name](dropout=0.0))
        model = keras.Model(model.input, model.output[keep])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.train_on_batch(rows(model) | {"positions": positions}, np.ones((3, 2, 16), "float32"))
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5)


def test_equal_in_packed_rows(builders, both, rows, positions):
    model = both(builders["encoder_prenorm_rotary"]())
    inputs = rows(model, (5, 5, 5)) | {"positions": positions}
    inputs["padding_mask"] = np.array([[1, 1, 3, 3, 3], [1, 1, 1, 1, 0], [1, 2, 3, 3, 0]], "int32")
    found, taken = (keras.ops.convert_to_numpy(x) for x in model.predict_on_batch(inputs))
    np.testing.assert_allclose(found, taken, rtol=0, atol=2e-5)


def test_equal_where_the_projection_is_more_than_a_product(builders, both, rows, positions):
    backbone = builders["encoder"]()
    model = both(backbone)
    inputs = rows(model) | {"positions": positions}
    projection = backbone.get_layer("block_1").attention.query_key_value
    projection.enable_lora(2)
    projection.lora_kernel_b.assign(np.ones(projection.lora_kernel_b.shape, "float32"))
    found, taken = (keras.ops.convert_to_numpy(x) for x in model(inputs))
    np.testing.assert_allclose(found, taken, rtol=0, atol=2e-5)
    projection.quantize("int8")
    found, taken = (keras.ops.convert_to_numpy(x) for x in model(inputs))
    np.testing.assert_allclose(found, taken, rtol=0, atol=2e-5)


def test_none_where_nothing_is_spared(builders):
    places = keras.Input((None,), dtype="int32")
    for name in ("lstm", "cnn", "encoder_decoder_t5", "lstm_encoder_decoder"):
        assert features_at(builders[name]().output, places) is None
    normalized = keras.layers.LayerNormalization(axis=1)(keras.Input((4, 16)))
    assert features_at(normalized, places) is None


def test_the_feed_forward_layer_runs_at_these_positions_alone(builders, rows, outputs, monkeypatch):
    backbone, seen = builders["encoder"](), set()
    feed_forward = backbone.get_layer("block_1").feed_forward
    call = feed_forward.call
    monkeypatch.setattr(feed_forward, "call", lambda x: seen.add(x.shape[1]) or call(x))
    outputs(models.text_classifier(backbone, 3, pooling="first"), rows(backbone))
    assert seen == {1}


@pytest.mark.parametrize("pooling", ["first", "last"])
@pytest.mark.parametrize("name", ["encoder", "decoder_llama"])
def test_a_classifier_equals_pooling_all_features(
    pooling, name, builders, rows, outputs, random_weights
):
    backbone = builders[name]()
    model = models.text_classifier(backbone, 3, pooling=pooling)
    random_weights(model)
    inputs = rows(backbone, (5, 3, 1, 0))
    features = outputs(backbone, inputs)
    pooled = models.MaskedPooling(pooling)(features, padding_mask=inputs["padding_mask"])
    expected = keras.ops.convert_to_numpy(model.get_layer("head_logits")(pooled))
    np.testing.assert_allclose(outputs(model, inputs), expected, rtol=0, atol=2e-5)


def test_positions_of_the_first_and_the_last_token():
    mask = np.array([[1, 1, 0], [1, 1, 1], [0, 0, 0]])
    for pooling, expected in (("first", [[0], [0], [0]]), ("last", [[1], [2], [0]])):
        found = keras.ops.convert_to_numpy(PooledPosition(pooling)(mask))
        assert found.tolist() == expected
    with pytest.raises(ValueError, match='Did you mean "first"'):
        PooledPosition("frist")
