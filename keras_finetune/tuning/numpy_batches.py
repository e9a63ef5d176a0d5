"""A data set of this library as Keras reads it on JAX and PyTorch: without TensorFlow."""

from collections.abc import Iterator
from typing import Any

import keras


class NumpyBatches(keras.utils.PyDataset):
    """The batches of a data set of this library, in its order.

    A `tf.data.Dataset` hands each batch from threads of TensorFlow's to Python, which takes longer
    than it takes to make most batches.

    Args:
        dataset: From `make_dataset` or `planned_dataset`.
    """

    def __init__(self, dataset: Any) -> None:
        super().__init__()
        self._dataset = dataset
        self._batches: Iterator[Any] = iter(())

    @property
    def num_batches(self) -> int:
        """How many batches an epoch has."""
        return int(self._dataset.cardinality())

    def __getitem__(self, step: int) -> Any:
        """Make the batch of a step. The first begins the next epoch, the others come in order."""
        if step == 0:
            self._batches = self._dataset.as_numpy_iterator()
        return next(self._batches)
