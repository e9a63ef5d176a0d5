"""Relative positions as T5 has them."""

import keras
import numpy as np
import pytest

from keras_finetune.models import RelativePositionBias
from keras_finetune.models.new_tokens import NewTokens
from keras_finetune.models.relative_position_bias import relative_buckets


def made(**settings):
    layer = RelativePositionBias(2, num_buckets=8, max_distance=12, **settings)
    layer.build((None, None))
    layer.embeddings.assign(np.random.default_rng(0).normal(size=(8, 2)))
    return layer


def numpy_of(x):
    return keras.ops.convert_to_numpy(x)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("count", "furthest"), [(32, 128), (12, 20), (64, 1000), (6, 4)])
def test_buckets_are_those_of_transformers(bidirectional, count, furthest):
    torch = pytest.importorskip("torch")
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    distances = torch.arange(-3 * furthest, 3 * furthest + 1)
    expected = t5.T5Attention._relative_position_bucket(distances, bidirectional, count, furthest)
    buckets = relative_buckets(count, furthest, bidirectional)
    found = buckets[np.clip(distances.numpy(), -furthest, furthest) + furthest]
    np.testing.assert_array_equal(found, expected.numpy())


@pytest.mark.backends
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("length", [1, 2, 30])
def test_each_pair_has_the_number_of_its_distance(bidirectional, length):
    layer = made(bidirectional=bidirectional)
    found = numpy_of(layer(np.ones((3, length), "int32")))
    assert found.shape == (1, 2, length, length)
    table, buckets = numpy_of(layer.embeddings), relative_buckets(8, 12, bidirectional)
    for token in range(length):
        for other in range(length):
            bucket = buckets[np.clip(other - token, -12, 12) + 12]
            np.testing.assert_allclose(found[0, :, token, other], table[bucket], atol=1e-6)


@pytest.mark.backends
def test_new_tokens_have_what_all_have_though_padding_lies_between():
    layer, length = made(), 7
    whole = numpy_of(layer(np.ones((1, length), "int32")))[0]
    # Prompts of 4 and 2 tokens, padded, and three columns that are the same for both.
    columns = [[0, 1, 2, 3, 4, 5, 6], [0, 1, 4, 5, 6]]
    for row, own in enumerate(columns):
        seen = np.isin(np.arange(9), own)
        visible = np.repeat((seen & (np.arange(9) <= 6))[None, None], 2, axis=0)
        positions = np.full((2, 1), len(own) - 1, "int32")
        new = NewTokens(np.int32(6), positions, visible, np.ones((2, 1), bool))
        found = numpy_of(layer.step(new))[row, :, 0, own]
        np.testing.assert_allclose(found.T, whole[:, len(own) - 1, : len(own)], atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [{"num_buckets": 1}, {"num_buckets": 7, "bidirectional": True}, {"max_distance": 16}],
)
def test_buckets_that_cannot_be(settings):
    with pytest.raises(ValueError, match=r"Relative positions need num_buckets.*Received"):
        RelativePositionBias(2, **settings)
