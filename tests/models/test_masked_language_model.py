import math

import keras
import numpy as np
import pytest

from keras_finetune import models

pytestmark = pytest.mark.backends


@pytest.fixture
def positions():
    return np.array([[4, 0], [2, 2], [0, 0]], "int32")


def test_equals_berts_head_in_numpy(builders, rows, outputs, random_weights, positions):
    backbone = builders["encoder"]()
    model = models.masked_language_model(backbone)
    random_weights(model)
    inputs = rows(backbone)
    taken = np.take_along_axis(outputs(backbone, inputs), positions[:, :, None], axis=1)
    kernel, bias = model.get_layer("head_transform").get_weights()
    x = taken @ kernel + bias
    x = 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    gamma, beta = model.get_layer("head_norm").get_weights()
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    x = x * gamma + beta
    (matrix,) = backbone.get_layer("token_embedding").get_weights()
    (vocabulary_bias,) = model.get_layer("head_logits").get_weights()
    got = outputs(model, {**inputs, "mask_positions": positions})
    np.testing.assert_allclose(got, x @ matrix.T + vocabulary_bias, rtol=0, atol=1e-4)


def test_padding_never_changes_the_logits(builders, rows, outputs, random_weights, positions):
    model = models.masked_language_model(builders["encoder"]())
    random_weights(model)
    narrow = outputs(model, {**rows(model), "mask_positions": positions})
    wide = outputs(model, {**rows(model, width=13), "mask_positions": positions})
    np.testing.assert_allclose(wide, narrow, rtol=0, atol=2e-5)


def test_trains_tied_and_untied(builders, rows, positions):
    for tied in (True, False):
        model = models.masked_language_model(builders["cnn"](), tied=tied)
        model.compile(
            optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        inputs = {**rows(model), "mask_positions": positions}
        labels = np.array([[1, 2], [3, 0], [4, 0]])
        weights = np.array([[1, 1], [1, 0], [1, 0]], "float32")
        history = model.fit(
            inputs, labels, sample_weight=weights, epochs=5, batch_size=3, verbose=0
        )
        assert history.history["loss"][-1] < history.history["loss"][0]


def test_logits_are_float32_under_mixed_precision(builders, rows, positions):
    model = models.masked_language_model(builders["encoder"](dtype="mixed_bfloat16"))
    logits = model({**rows(model), "mask_positions": positions})
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"


@pytest.mark.parametrize("name", ["decoder_gpt2", "decoder_llama", "lstm"])
def test_a_backbone_that_does_not_see_the_future_is_refused(builders, name):
    with pytest.raises(ValueError, match="needs a backbone that sees both sides, but 'block_0'"):
        models.masked_language_model(builders[name](), tied=False)


@pytest.mark.parametrize(
    "name", ["lstm_bidirectional", "ngram", "encoder_decoder", "encoder_decoder_t5"]
)
def test_a_backbone_that_sees_both_sides_is_taken(builders, name):
    assert models.masked_language_model(builders[name]()).output_shape == (None, None, 50)


def test_bad_arguments(builders):
    with pytest.raises(ValueError, match="no gated activation"):
        models.masked_language_model(builders["encoder"](), activation="swiglu")
    tokens = keras.Input((None,), dtype="int32")
    plain = keras.Model(tokens, keras.layers.Embedding(20, 4, name="token_embedding")(tokens))
    with pytest.raises(ValueError, match="must have dict inputs"):
        models.masked_language_model(plain)
