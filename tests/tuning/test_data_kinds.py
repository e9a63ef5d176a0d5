import keras
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from keras_finetune.tuning.data_kinds import (
    arrays_in,
    comes_in_order,
    count_steps,
    first_batch,
    is_arrays,
    is_tf_dataset,
)


class Pairs(keras.utils.PyDataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        return np.full((2, 3), index), np.zeros(2)


def test_arrays_are_told():
    tensor = keras.ops.ones((2, 3))
    assert all(map(is_arrays, [np.ones(3), {"a": np.ones(3)}, [np.ones(3), tensor], ["text"]]))
    assert not any(map(is_arrays, [None, Pairs(), (row for row in [1]), []]))


def test_what_comes_in_order():
    arrays = [np.ones(3), {"a": np.ones(3), "b": None}, keras.ops.ones(3), csr_matrix(np.eye(2))]
    assert not any(map(comes_in_order, arrays))
    assert comes_in_order(row for row in [1])
    assert not comes_in_order(Pairs())
    tf = pytest.importorskip("tensorflow")
    assert comes_in_order(tf.data.Dataset.range(3))
    assert not comes_in_order(tf.ones(3))


def test_steps_of_arrays():
    x = np.zeros((100, 2))
    assert count_steps(x, {}) == 4
    assert count_steps({"a": x}, {"batch_size": 30}) == 4
    assert count_steps(x, {"validation_split": 0.2, "batch_size": 16}) == 5
    assert count_steps(x, {"steps_per_epoch": 7}) == 7


def test_steps_of_data_sets():
    assert count_steps(Pairs(), {}) == 5
    assert count_steps((row for row in [1]), {}) is None
    tf = pytest.importorskip("tensorflow")
    dataset = tf.data.Dataset.range(10).batch(4)
    assert is_tf_dataset(dataset)
    assert count_steps(dataset, {}) == 3
    assert count_steps(dataset.filter(lambda x: True), {}) is None


def test_first_batch():
    assert first_batch(np.arange(6).reshape(3, 2)).tolist() == [[0, 1]]
    assert first_batch(Pairs())[0].tolist() == [[0] * 3] * 2
    with pytest.raises(ValueError, match="not built"):
        first_batch(iter([1]))


def test_arrays_in_a_nest():
    found = list(arrays_in({"a": np.ones(2), "b": [np.zeros(3)]}, "x"))
    assert [len(array) for array in found] == [2, 3]
    assert list(arrays_in(None, "x")) == []
    assert len(list(arrays_in({"a": np.ones(2), "b": None}, "x"))) == 1
    with pytest.raises(ValueError, match="x holds a Python list of int"):
        list(arrays_in([1, 2], "x"))
