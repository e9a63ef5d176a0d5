import keras
import numpy as np
import pytest

from keras_finetune.models import NgramEmbedding, ngram_encoder
from keras_finetune.models.ngram_embedding import ngram_rows

pytestmark = pytest.mark.backends


def added(layer, token_ids, padding_mask=None):
    """What the layer adds to zeros."""
    token_ids = np.array(token_ids, "int32")
    zeros = np.zeros((*token_ids.shape, 3), "float32")
    mask = None if padding_mask is None else np.array(padding_mask)
    return keras.ops.convert_to_numpy(layer(zeros, token_ids, padding_mask=mask))


def row_of(ngram, num_buckets):
    """The hash, in integers of any size."""
    hashed = len(ngram)
    for token in ngram:
        hashed = (hashed * 116_049_371 + token) % 2**32
    signed = hashed - 2**32 if hashed >= 2**31 else hashed
    return (signed ^ (signed >> 15)) % num_buckets


def test_each_token_gets_the_sum_of_the_ngrams_that_end_at_it(random_weights):
    layer = NgramEmbedding(1_000, [2, 3])
    tokens = [7, 30_000, 2, 999_999, 7]
    layer.build((1, 5, 3))
    random_weights(layer)
    table = keras.ops.convert_to_numpy(layer.embeddings)
    expected = np.zeros((5, 3), "float32")
    for size in (2, 3):
        for end in range(size, 6):
            expected[end - 1] += table[row_of(tokens[end - size : end], 1_000)]
    np.testing.assert_allclose(added(layer, [tokens])[0], expected, atol=1e-6)
    inputs = np.ones((1, 5, 3), "float32")
    got = keras.ops.convert_to_numpy(layer(inputs, np.array([tokens], "int32")))
    np.testing.assert_allclose(got[0], expected + 1, atol=1e-6)


def test_no_ngram_reaches_into_padding_or_another_text(random_weights):
    layer = NgramEmbedding(50, [2, 3])
    layer.build((1, 5, 3))
    random_weights(layer)
    alone = added(layer, [[4, 5, 6]])[0]
    left = added(layer, [[9, 9, 4, 5, 6]], [[0, 0, 1, 1, 1]])[0]
    right = added(layer, [[4, 5, 6, 9, 9]], [[1, 1, 1, 0, 0]])[0]
    packed = added(layer, [[9, 9, 4, 5, 6]], [[1, 1, 3, 3, 3]])[0]
    assert np.ptp(alone) > 0.1
    np.testing.assert_allclose(left[2:], alone, atol=1e-6)
    np.testing.assert_allclose(right[:3], alone, atol=1e-6)
    np.testing.assert_allclose(packed[2:], alone, atol=1e-6)
    assert not alone[0].any()
    assert not left[:2].any()


def test_pairs_are_spread_over_the_rows():
    """All pairs of 100 tokens: nearly as many rows as by pure chance."""
    first, second = np.meshgrid(np.arange(100), np.arange(100))
    pairs = keras.ops.convert_to_tensor(np.stack([first.ravel(), second.ravel()], 1), "int32")
    rows, real = ngram_rows(pairs, keras.ops.ones_like(pairs), 2, 2**16)
    rows = keras.ops.convert_to_numpy(rows)[:, 1]
    assert rows.min() >= 0
    assert rows.max() < 2**16
    assert len(np.unique(rows)) > 0.9 * 2**16 * (1 - np.exp(-10_000 / 2**16))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(real)[0], [False, True])


def test_token_dropout_hides_whole_ngrams_in_training_only(random_weights):
    layer = NgramEmbedding(50, [2], token_dropout=0.5)
    layer.build((4, 20, 3))
    random_weights(layer)
    token_ids = np.arange(80, dtype="int32").reshape(4, 20) % 50
    zeros = np.zeros((4, 20, 3), "float32")
    hidden = keras.ops.convert_to_numpy(layer(zeros, token_ids, training=True))[:, 1:] == 0
    np.testing.assert_array_equal(hidden.any(axis=-1), hidden.all(axis=-1))
    assert 0.2 < hidden.mean() < 0.8
    assert (added(layer, token_ids)[:, 1:] != 0).any(axis=-1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ngram_sizes": (1, 2)}, r"at least 2.*Received: ngram_sizes=\[1, 2\]"),
        ({"ngram_sizes": (2.0,)}, "ints of at least 2"),
        ({"num_buckets": 0}, "num_buckets must be an int of at least 1"),
        ({"token_dropout": 1.0}, "token_dropout must be a number from 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ngram_encoder(10, hidden_dim=4, **arguments)
