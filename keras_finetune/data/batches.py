"""A `tf.data.Dataset` of batches that Python makes, several with each call."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from keras_finetune.data.weak_call import weakly

_BATCHES_AHEAD = 4
# One batch a call took 4% of the time of training an LSTM on a CPU; 16 gain no more than the longer
# graph takes to start at every epoch.
_BATCHES_OF_A_CALL = 8
_BYTES_OF_A_CALL = 1_000_000
# Larger calls make the reading of a data set begin later: so many must gain it back.
_LEAST_CALLS = 8


def count_batches_of_a_call(largest: Any, num_steps: int) -> int:
    """Count how many batches Python is to make when TensorFlow asks for the next.

    Args:
        largest: The largest batch, a nest of arrays.
        num_steps: Of an epoch.

    Returns:
        int, at least 1.
    """
    import tensorflow as tf

    size = sum(np.asarray(x).nbytes for x in tf.nest.flatten(largest))
    most = min(_BATCHES_OF_A_CALL, _BYTES_OF_A_CALL // max(size, 1))
    return max(1, min(most, num_steps // _LEAST_CALLS))


def batches_dataset(
    epoch: Callable[[], int],
    steps: range,
    batch: Callable[[int, int], tuple[Any, ...]],
    signature: Any,
) -> Any:
    """Make a `tf.data.Dataset` of the batches that a function makes.

    Args:
        epoch: The number of the epoch to read, asked for when a reading begins.
        steps: Of the epoch. Each is one call into Python, which makes all batches up to the next.
        batch: From the numbers of epoch and step to a nest of arrays.
        signature: The data set's `element_spec`.

    Returns:
        The data set, which keeps `epoch` and `batch`, with an `as_numpy_iterator` that TensorFlow
        has no part in.
    """
    import tensorflow as tf

    weak_epoch, weak_batch = weakly(epoch), weakly(batch)
    specs = tf.nest.flatten(signature)

    def arrays(epoch: np.ndarray, first: np.ndarray) -> list[np.ndarray]:
        made: list[np.ndarray] = []
        for step in range(int(first), int(first) + steps.step):
            if step < steps.stop:
                one = tf.nest.flatten(_as_arrays(weak_batch(int(epoch), step), signature))
                if steps.step > 1:  # The next may be made in the same memory.
                    one = [np.array(x) for x in one]
            made += one  # Of the last again after the end, as many as were announced.
        return made

    def read_steps(epoch: Any, first: Any) -> Any:
        every = [spec for _ in range(steps.step) for spec in specs]
        made = tf.numpy_function(arrays, [epoch, first], [spec.dtype for spec in every])
        for x, spec in zip(made, every, strict=True):
            x.set_shape(spec.shape)
        parts = [made[i : i + len(specs)] for i in range(0, len(made), len(specs))]
        batches = [
            tf.data.Dataset.from_tensors(tf.nest.pack_sequence_as(signature, part))
            for part in parts
        ]
        return _joined(batches).take(steps.stop - first)

    def read_epoch(_: Any) -> Any:
        number = tf.numpy_function(lambda: np.int64(weak_epoch()), [], tf.int64)
        firsts = tf.data.Dataset.range(steps.start, steps.stop, steps.step)
        return firsts.flat_map(lambda first: read_steps(number, first))

    def as_numpy_iterator() -> Iterator[Any]:
        number = epoch()
        every = range(steps.start, steps.stop)
        return (_as_arrays(batch(number, step), signature) for step in every)

    dataset = tf.data.Dataset.from_tensors(0).flat_map(read_epoch)
    dataset = read_ahead(dataset, steps.stop - steps.start, max(_BATCHES_AHEAD, steps.step))
    # This holds the functions; what is derived from a data set holds the data set.
    dataset.as_numpy_iterator = as_numpy_iterator
    return dataset


def _joined(datasets: list[Any]) -> Any:
    """One after the other; by halves, since TensorFlow asks each part through all those around."""
    if len(datasets) == 1:
        return datasets[0]
    half = len(datasets) // 2
    return _joined(datasets[:half]).concatenate(_joined(datasets[half:]))


def read_ahead(dataset: Any, num_steps: int, ahead: int = _BATCHES_AHEAD) -> Any:
    """Let a `tf.data.Dataset` make some batches while the model works on another.

    Args:
        dataset: Batches.
        num_steps: How many there are.
        ahead: How many of them are made in advance.
    """
    import tensorflow as tf

    dataset = without_autotuning(dataset.prefetch(ahead))
    return dataset.apply(tf.data.experimental.assert_cardinality(num_steps))


def without_autotuning(dataset: Any) -> Any:
    """Keep TensorFlow from tuning a `tf.data.Dataset` while it is read.

    Autotuning sleeps twice as long each time, and the end of an epoch sometimes waits for it to
    wake: up to as long again as the epoch took. Without it, `AUTOTUNE` stands for as many calls at
    a time as there are processors.

    Args:
        dataset: Any.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def _as_arrays(made: Any, signature: Any) -> Any:
    if isinstance(signature, dict):
        return {name: _as_arrays(made[name], spec) for name, spec in signature.items()}
    if isinstance(signature, tuple | list):
        parts = [_as_arrays(x, spec) for x, spec in zip(made, signature, strict=True)]
        return tuple(parts) if isinstance(signature, tuple) else parts
    made, dtype = np.asarray(made), signature.dtype.as_numpy_dtype
    if not np.can_cast(made.dtype, dtype, "same_kind"):
        raise TypeError(
            f"A batch has {made.dtype} where others have {np.dtype(dtype)}. Give every batch the "
            "same dtype: x.astype(...)."
        )
    return made.astype(dtype, copy=False)
