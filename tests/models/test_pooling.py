import keras
import numpy as np
import pytest

from keras_finetune.models import MaskedPooling

pytestmark = pytest.mark.backends

MASK = np.arange(5) < np.array([[5], [2], [0]])


@pytest.fixture
def hidden():
    return np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32") - 3


@pytest.mark.parametrize(
    ("pooling", "reference"),
    [
        ("mean", lambda x: x.mean(axis=0)),
        ("max", lambda x: x.max(axis=0)),
        ("first", lambda x: x[0]),
        ("last", lambda x: x[-1]),
    ],
)
def test_pools_real_tokens_only(hidden, pooling, reference):
    layer = MaskedPooling(pooling)
    got = keras.ops.convert_to_numpy(layer(hidden, padding_mask=MASK))
    np.testing.assert_allclose(got[0], reference(hidden[0]), rtol=1e-5)
    np.testing.assert_allclose(got[1], reference(hidden[1, :2]), rtol=1e-5)
    unmasked = keras.ops.convert_to_numpy(layer(hidden))
    np.testing.assert_allclose(unmasked[1], reference(hidden[1]), rtol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "max", "last"])
def test_a_row_of_padding_only_gives_zeros(hidden, pooling):
    got = keras.ops.convert_to_numpy(MaskedPooling(pooling)(hidden, padding_mask=MASK))
    np.testing.assert_array_equal(got[2], np.zeros(4))


def test_a_long_mean_is_exact_in_half_precision():
    hidden = np.full((1, 3000, 2), 40.0, "float16")
    got = MaskedPooling("mean", dtype="float16")(hidden, padding_mask=np.ones((1, 3000), bool))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(got), [[40.0, 40.0]], rtol=1e-3)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r'"mean", "first", "max", "last".*Did you mean "mean"'):
        MaskedPooling("meen")
