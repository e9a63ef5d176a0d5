"""The topmost block computes what the head uses, and nothing changes by it."""

import keras
import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune import models
from keras_finetune.models.model_graph import model_graph
from keras_finetune.tuning import prefix_cut
from keras_finetune.tuning.frozen_prefix import cut_model
from keras_finetune.tuning.prefix_cut import find_cut, uncut
from keras_finetune.tuning.spared_positions import sparing_graph

pytestmark = pytest.mark.backends

VOCAB = 50
LLAMA = {
    "positions": "rotary",
    "norm": "rms",
    "activation": "swiglu",
    "use_bias": False,
    "num_kv_heads": 2,
    "qk_norm": True,
    "dropout": 0.0,
}
BACKBONES = {
    "bert": lambda: models.transformer_encoder(VOCAB, 2, 4, 16, max_length=40, dropout=0.0),
    "prenorm": lambda: models.transformer_encoder(
        VOCAB, 2, 4, 16, positions="rotary", norm_first=True, dropout=0.0
    ),
    "gpt2": lambda: models.transformer_decoder(VOCAB, 2, 4, 16, max_length=40, dropout=0.0),
    "llama": lambda: models.transformer_decoder(VOCAB, 2, 4, 16, 24, **LLAMA),
    "bart": lambda: models.encoder_decoder(VOCAB, 1, 4, 16, max_length=40, dropout=0.0),
}
# Padded, full, without a token, with another text behind.
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [1, 1, 3, 3, 3]], "int32")


@pytest.fixture
def build():
    def made(name, pooling="first"):
        keras.utils.set_random_seed(0)
        backbone = BACKBONES[name]()
        if pooling == "masked":
            model = models.masked_language_model(backbone)
        else:
            model = models.text_classifier(backbone, 3, pooling=pooling, dropout=0.0)
        rng = np.random.default_rng(0)
        for weight in model.weights:
            if weight.dtype == "float32":
                weight.assign(rng.normal(0.1, 0.4, weight.shape))
        return model

    return made


@pytest.fixture
def rows():
    def made(model):
        rng = np.random.default_rng(1)
        x = {name: rng.integers(0, VOCAB, MASK.shape).astype("int32") for name in model.input}
        x = {name: MASK if "mask" in name else value for name, value in x.items()}
        if "mask_positions" in x:
            x["mask_positions"] = np.array([[2, 0], [4, 1], [0, 0], [3, 2]], "int32")
        return x

    return made


CASES = [(name, "first") for name in BACKBONES]
CASES += [("llama", "last"), ("prenorm", "masked")]


@pytest.mark.parametrize(("name", "pooling"), CASES)
def test_gives_what_the_model_gives(name, pooling, build, rows):
    model = build(name, pooling)
    assert sparing_graph(model).spares
    x = rows(model)
    expected = keras.ops.convert_to_numpy(model(x))
    with cut_model(model, uncut(model)):
        found = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize(
    ("name", "pooling", "frozen"),
    [("llama", "last", 1), ("bert", "masked", 0), ("bert", "first", 2)],
)
def test_trains_as_when_all_is_computed(name, pooling, frozen, build, rows, monkeypatch):
    weights = []
    for graph in (sparing_graph, model_graph):
        monkeypatch.setattr(prefix_cut, "sparing_graph", graph)
        model = build(name, pooling)
        x = rows(model)
        tuner = kft.FineTuner(model)
        tuner.compile(keras.optimizers.SGD(0.05), "mse")
        if frozen:
            tuner.freeze("backbone", bottom=frozen)
        y = np.ones(model(x).shape, "float32")
        tuner.fit(x, y, batch_size=4, epochs=2, cache_frozen=bool(frozen), verbose=0)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-4)


def test_the_feed_forward_layer_runs_at_these_positions_alone(build, rows, monkeypatch):
    model, seen = build("bert"), {}

    def watched(name, call):
        return lambda x: seen.update({name: x.shape[1]}) or call(x)

    for name in ("block_0", "block_1"):
        layer = model.get_layer(name).feed_forward
        monkeypatch.setattr(layer, "call", watched(name, layer.call))
    with cut_model(model, uncut(model)):
        model(rows(model))
    assert seen == {"block_0": 5, "block_1": 1}


def test_a_projection_that_is_more_than_a_product(build, rows):
    model = build("bert")
    projection = model.get_layer("block_1").attention.query_key_value
    projection.enable_lora(2)
    projection.lora_kernel_b.assign(np.ones(projection.lora_kernel_b.shape, "float32"))
    for change in (lambda: None, lambda: projection.quantize("int8")):
        change()
        expected = keras.ops.convert_to_numpy(model(rows(model)))
        with cut_model(model, uncut(model)):
            found = keras.ops.convert_to_numpy(model(rows(model)))
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5)


def test_the_model_stays_as_it_is(build, rows, tmp_path):
    model = build("bert")
    steps = [step.node for step in model_graph(model).steps]
    lines, later = [], []
    model.summary(print_fn=lines.append)
    graph = sparing_graph(model)
    model.summary(print_fn=later.append)
    assert later == lines
    assert sparing_graph(model) is graph
    assert [step.node for step in model_graph(model).steps] == steps
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("block_1").output.shape == (None, None, 16)
    found, expected = (keras.ops.convert_to_numpy(m(rows(model))) for m in (loaded, model))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_nothing_is_spared_where_other_positions_are_used(build):
    bert, pooling = BACKBONES["bert"](), models.MaskedPooling("first")
    inputs, features = bert.input, bert.output
    mask = inputs["padding_mask"]
    pooled = pooling(features, padding_mask=mask)
    both = keras.Model(inputs, [pooled, features])
    used = keras.layers.Add()([pooled, keras.ops.max(features, axis=1)])
    mean = models.text_classifier(bert, 2)
    lstm = models.text_classifier(models.lstm_encoder(VOCAB, 8), 2, pooling="last")
    nested = keras.Model(
        inputs, models.MaskedPooling("first")(bert(inputs), inputs["padding_mask"])
    )
    regularized = [build("bert") for _ in range(3)]
    block = regularized[0].get_layer("block_1")
    regularized[1].get_layer("head_pooling").activity_regularizer = keras.regularizers.L2(0.1)
    feed_forward = regularized[2].get_layer("block_1").feed_forward
    for layer in (block, feed_forward.up):
        layer.activity_regularizer = keras.regularizers.L2(0.1)
    block = models.TransformerBlock(2, 32)
    of_bias = block(features, mask, None, None, keras.ops.zeros((1, 2, 1, 1)) * 1.0)
    biased = keras.Model(inputs, pooling(of_bias, padding_mask=mask))
    for model in (both, keras.Model(inputs, used), mean, lstm, nested, biased, *regularized):
        assert not sparing_graph(model).spares


def test_a_head_called_by_keywords(build, rows):
    bert = BACKBONES["bert"]()
    inputs, places = bert.input, keras.Input((None,), dtype="int32", name="mask_positions")
    pooled = models.MaskedPooling("last")(inputs=bert.output, padding_mask=inputs["padding_mask"])
    gathered = models.GatherPositions()(inputs=bert.output, positions=places)
    for model in (
        keras.Model(inputs, pooled),
        keras.Model({**inputs, "mask_positions": places}, gathered),
    ):
        assert sparing_graph(model).spares
        expected = keras.ops.convert_to_numpy(model(rows(model)))
        with cut_model(model, uncut(model)):
            found = keras.ops.convert_to_numpy(model(rows(model)))
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5)


def test_what_is_changed_later_counts(build, rows):
    model = build("bert", "first")
    assert sparing_graph(model).spares
    model.get_layer("head_pooling").pooling = "last"
    expected = keras.ops.convert_to_numpy(model(rows(model)))
    with cut_model(model, uncut(model)):
        found = keras.ops.convert_to_numpy(model(rows(model)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5)
    model.get_layer("block_1").activity_regularizer = keras.regularizers.L2(0.1)
    assert not sparing_graph(model).spares


def test_a_subclass_keeps_its_own_shape():
    class Narrow(models.TransformerBlock):
        def build(self, inputs_shape):
            super().build(inputs_shape)

        def call(self, inputs, padding_mask=None, training=None):
            return super().call(inputs, padding_mask=padding_mask, training=training)[..., :5]

        def compute_output_shape(self, inputs_shape):
            return (*inputs_shape[:-1], 5)

    x = keras.Input((None, 16))
    assert Narrow(2, 32)(x).shape == (None, None, 5)


def test_the_cut_may_lie_in_the_head_or_below_the_block(build):
    model = build("prenorm", "last")
    for name in ("norm", "head_logits", "block_1"):
        for layer in model.layers:
            layer.trainable = layer.name == name
        cut = find_cut(model)
        shapes = [cut.graph.symbols[x].shape for x in cut.tensors]
        expected = {"norm": (None, 1, 16), "head_logits": (None, 16), "block_1": (None, None, 16)}
        assert shapes == [expected[name]]
