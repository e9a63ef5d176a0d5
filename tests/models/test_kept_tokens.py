import keras
import numpy as np
import pytest
from keras import ops

from keras_finetune.device import on_gpu
from keras_finetune.models.attention_weights import attend, visible_weights
from keras_finetune.models.kept_tokens import attend_from_one, write

pytestmark = pytest.mark.backends

ROWS, HEADS, KV_HEADS, CAPACITY, WIDTH = 3, 4, 2, 6, 5


def normal(*shape, seed):
    return ops.array(np.random.default_rng(seed).normal(size=shape).astype("float32"))


def kept(seed):
    return normal(ROWS, KV_HEADS, CAPACITY, WIDTH, seed=seed)


def new_token(seed, heads=KV_HEADS):
    return normal(ROWS, heads, 1, WIDTH, seed=seed)


def slot_of(number):
    return ops.array(number, "int32")


@pytest.mark.parametrize("slot", [0, 3, CAPACITY - 1])
def test_one_token_attends_as_if_it_had_been_written(slot):
    query, key, value = new_token(0, HEADS), new_token(1), new_token(2)
    keys, values = kept(3), kept(4)
    # The second row does not see column 1.
    columns = np.arange(CAPACITY)
    visible = np.stack([columns <= slot, (columns <= slot) & (columns != 1), columns <= slot])
    visible[:, slot] = True

    def weigh(scores):
        return visible_weights(scores, ops.array(visible[:, None]), scale=0.5)

    found = attend_from_one(query, key, value, keys, values, slot_of(slot), weigh)
    with_own = (
        ops.slice_update(ops.copy(x), (0, 0, slot, 0), y) for x, y in ((keys, key), (values, value))
    )
    expected = attend(query, *with_own, weigh)
    np.testing.assert_allclose(
        ops.convert_to_numpy(found), ops.convert_to_numpy(expected), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("count", [1, 2])
def test_new_tokens_are_written_to_their_columns_only(count):
    before = kept(0)
    new = normal(ROWS, KV_HEADS, count, WIDTH, seed=1)
    expected = np.array(ops.convert_to_numpy(before))
    expected[:, :, 2 : 2 + count] = ops.convert_to_numpy(new)
    found = ops.convert_to_numpy(write(before, new, slot_of(2)))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.skipif(
    keras.backend.backend() == "jax" or (keras.backend.backend() == "tensorflow" and on_gpu()),
    reason="There, a new tensor has the new token.",
)
def test_one_token_is_written_in_place():
    before = kept(0)
    write(before, new_token(1), slot_of(2))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(before)[:, :, 2:3], ops.convert_to_numpy(new_token(1))
    )
