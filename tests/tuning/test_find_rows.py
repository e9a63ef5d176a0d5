"""What of the data can be kept activations for."""

import numpy as np
import pytest

from keras_finetune.tuning.find_rows import rows_of


def test_a_pipeline_that_shuffles_anew_is_not_read():
    tf = pytest.importorskip("tensorflow")
    rows = tf.data.Dataset.from_tensor_slices((np.arange(6.0), np.arange(6)))
    read = []
    counted = rows.map(
        lambda x, y: (tf.numpy_function(lambda x: read.append(1) or x, [x], x.dtype), y)
    )
    assert "other batches" in rows_of(counted.shuffle(6, seed=1).batch(2).prefetch(1), None)
    assert not read
    once = rows.shuffle(6, seed=1, reshuffle_each_iteration=False).batch(2)
    assert rows_of(once, None).num_rows == 6


def test_labels_that_are_left_out():
    x = np.zeros((4, 2), "float32")
    assert "left out" in rows_of(x, [np.zeros(4), None])
