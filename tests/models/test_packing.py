"""Packed rows give what padded rows give: features, loss and gradients."""

import keras
import numpy as np
import pytest

from keras_finetune.models import (
    RelativePositionBias,
    TransformerBlock,
    language_model,
    masked_language_model,
    transformer_decoder,
    transformer_encoder,
)
from keras_finetune.models.packing import positions, same_text

pytestmark = pytest.mark.backends

LENGTHS = [5, 3, 7, 1, 4]
ROWS = [[0, 1], [2], [3, 4]]  # In rows of 8.


def texts():
    rng = np.random.default_rng(0)
    return [rng.integers(1, 30, length) for length in LENGTHS]


def padded():
    ids, mask = np.zeros((5, 8), "int32"), np.zeros((5, 8), "int32")
    for row, text in enumerate(texts()):
        ids[row, : len(text)], mask[row, : len(text)] = text, 1
    return {"token_ids": ids, "padding_mask": mask}


def packed():
    ids, mask = np.zeros((3, 8), "int32"), np.zeros((3, 8), "int32")
    for number, row in enumerate(ROWS):
        column = 0
        for text in (texts()[i] for i in row):
            ids[number, column : column + len(text)] = text
            mask[number, column : column + len(text)] = column + 1
            column += len(text)
    return {"token_ids": ids, "padding_mask": mask}


def by_text(features, inputs):
    """The features of each text, from padded rows or packed ones."""
    found = {}
    for ids, mask, row in zip(inputs["token_ids"], inputs["padding_mask"], features, strict=True):
        for start in np.unique(mask[mask > 0]):
            found[tuple(ids[mask == start])] = row[mask == start]
    return [found[tuple(text)] for text in texts()]


def relative():
    names = ("token_ids", "padding_mask")
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
    bias = RelativePositionBias(2, 8, 6, bidirectional=True)(inputs["padding_mask"])
    x = keras.layers.Embedding(30, 16)(inputs["token_ids"])
    for _ in range(2):
        x = TransformerBlock(2, 16)(x, inputs["padding_mask"], position_bias=bias)
    return keras.Model(inputs, x)


BACKBONES = {
    "relative": relative,
    "encoder": lambda: transformer_encoder(30, 2, 2, 16, dropout=0.0),
    "llama": lambda: transformer_decoder(
        30, 2, 4, 16, num_kv_heads=2, positions="rotary", norm="rms", activation="swiglu", dropout=0
    ),
}


def test_positions_and_pairs():
    mask = packed()["padding_mask"]
    assert keras.ops.convert_to_numpy(positions(mask))[0].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    allowed = keras.ops.convert_to_numpy(same_text(keras.ops.convert_to_tensor(mask)))
    assert allowed[0, :5, :5].all()
    assert allowed[0, 5:, 5:].all()
    assert not allowed[0, :5, 5:].any()
    assert not allowed[0, 5:, :5].any()
    assert not allowed[1, :, 7].any()


@pytest.mark.parametrize("name", list(BACKBONES))
def test_features_are_those_of_padded_rows(name, random_weights):
    model = BACKBONES[name]()
    random_weights(model)
    one, other = (by_text(model.predict(x, verbose=0), x) for x in (padded(), packed()))
    for x, y in zip(one, other, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-5)


def test_a_mask_of_booleans_is_a_mask_of_ones():
    model = BACKBONES["encoder"]()
    as_bool = {**padded(), "padding_mask": padded()["padding_mask"].astype(bool)}
    np.testing.assert_array_equal(
        model.predict(as_bool, verbose=0), model.predict(padded(), verbose=0)
    )


def gradients_of_a_step(model, x, y, weights):
    """What plain gradient descent at rate 1 takes off the weights."""
    model.compile(
        keras.optimizers.SGD(1.0),
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
    )
    before = model.get_weights()
    loss = model.train_on_batch(x, y, sample_weight=weights)
    return loss, [a - b for a, b in zip(before, model.get_weights(), strict=True)]


@pytest.mark.parametrize("name", ["llama"])
def test_a_language_model_has_the_same_gradients(name):
    keras.utils.set_random_seed(0)
    model = language_model(BACKBONES[name]())
    start, found = model.get_weights(), []
    for x in (padded(), packed()):
        model.set_weights(start)
        targets = np.roll(x["token_ids"], -1, axis=1)
        mask = x["padding_mask"]
        weights = ((mask > 0) & (np.roll(mask, -1, axis=1) == mask)).astype("float32")
        weights[:, -1] = 0
        found.append(gradients_of_a_step(model, x, targets, weights))
    assert_same(*found)


def test_a_masked_language_model_has_the_same_gradients():
    keras.utils.set_random_seed(0)
    model = masked_language_model(BACKBONES["encoder"]())
    start, found = model.get_weights(), []
    for x in (padded(), packed()):
        model.set_weights(start)
        every = np.tile(np.arange(8, dtype="int32"), (len(x["token_ids"]), 1))
        weights = (x["padding_mask"] > 0).astype("float32")
        x = {**x, "mask_positions": every}
        found.append(gradients_of_a_step(model, x, x["token_ids"], weights))
    assert_same(*found)


def assert_same(one, other):
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    for x, y in zip(one[1], other[1], strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)
    assert max(np.abs(x).max() for x in one[1]) > 1e-3
