"""What blocks keep comes out of the stacks as it went in."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from keras_finetune import models
from keras_finetune.generation.kept_stacks import KeptStacks

pytestmark = pytest.mark.backends

ROWS, CAPACITY = 3, 6
# By place: number of key and value heads.
HEADS = {10: 2, 11: 1, 12: 2, 13: 2}


@pytest.fixture
def stacks():
    steps = [SimpleNamespace(operation=block(heads), outputs=[n]) for n, heads in HEADS.items()]
    return KeptStacks(steps)


def block(heads):
    made = models.TransformerBlock(4, 16, num_kv_heads=heads, causal=True)
    made.build((1, 1, 8))
    return made


def tensors(columns, seed):
    rng = np.random.default_rng(seed)
    return {
        place: {
            name: ops.array(rng.normal(size=(ROWS, heads, columns, 2)).astype("float32"))
            for name in ("keys", "values")
        }
        for place, heads in HEADS.items()
    }


def arrays(nested):
    return keras.tree.map_structure(lambda x: np.array(ops.convert_to_numpy(x)), nested)


def assert_same(found, expected):
    keras.tree.map_structure(np.testing.assert_array_equal, arrays(found), expected)


def test_apart_undoes_together(stacks):
    # A layer that is no block, and the only one there is in its place.
    kept = tensors(CAPACITY, seed=0) | {14: {"carry": ops.ones((ROWS, 5))}}
    together = stacks.together(kept)
    stacked = keras.backend.backend() == "tensorflow"
    assert len(together) == (3 if stacked else len(kept))
    assert_same(stacks.apart(together), arrays(kept))


@pytest.mark.parametrize("count", [1, 2])
def test_new_tokens_are_written_for_each_block(stacks, count):
    kept, new = tensors(CAPACITY, seed=0), tensors(count, seed=1)
    expected = arrays(kept)
    for place, made in arrays(new).items():
        for name, x in made.items():
            expected[place][name][:, :, 2 : 2 + count] = x
    written = stacks.write(stacks.together(kept), new, ops.array(2, "int32"), after=ops.ones(()))
    assert_same(stacks.apart(written), expected)


def test_rows_are_taken_from_each_block(stacks):
    kept = tensors(CAPACITY, seed=0)
    expected = keras.tree.map_structure(lambda x: x[[2, 2, 0, 1]], arrays(kept))
    found = stacks.rows(stacks.together(kept), np.array([2, 2, 0, 1], "int32"))
    assert_same(stacks.apart(found), expected)
