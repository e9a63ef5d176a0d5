"""Few fixed widths for sequences of many lengths."""

import keras
import numpy as np

from keras_finetune.device import on_gpu

_FEWEST_BUCKETS, _MOST_BUCKETS = 2, 24
# What a width costs: TensorFlow compiles some kernels, JAX the whole step, PyTorch nothing.
_BUCKETS_OF_ROOT = {"tensorflow": 1.0, "jax": 0.3, "torch": 3.0}
# XLA compiles a step for a GPU as long as hundreds of them run.
_BUCKETS_OF_ROOT_ON_GPU = 0.05

# The programme takes memory and time that grow with their square.
_MOST_CANDIDATES = 1_024


def choose_num_buckets(num_batches: float, fewest: int = _FEWEST_BUCKETS) -> int:
    """Choose more widths where an epoch has more batches to repay them.

    A width costs compilation, once. The padding left is about inverse to the number of widths, so
    that the number at which another does not pay grows with the root of the batches. TensorFlow's
    factor is that of a small transformer on a CPU over three epochs, where a width takes as long to
    compile as two batches to compute; that of a GPU is such a model's with JAX on one, some 700
    batches. Those of the others are guesses beside them.

    Args:
        num_batches: Batches of an epoch.
        fewest: int, buckets at least.

    Returns:
        int, at most 24.

    Example:
        >>> [choose_num_buckets(n) for n in (10, 100, 10_000)]
        [3, 10, 24]
    """
    of_root = _BUCKETS_OF_ROOT.get(keras.backend.backend(), 1.0)
    if on_gpu() and keras.backend.backend() != "torch":
        of_root = _BUCKETS_OF_ROOT_ON_GPU
    return min(max(round(of_root * num_batches**0.5), fewest), _MOST_BUCKETS)


def bucket_widths(
    lengths: np.ndarray, num_buckets: int = 6, *, multiple: int = 4, max_length: int | None = None
) -> np.ndarray:
    """Choose the widths that leave the least padding.

    Every width that is a compiled shape costs compilation, every token of padding costs
    computation. With the number of widths given, dynamic programming over the histogram of lengths
    finds the best ones. Of more than 1,024 candidates it looks at 1,024, evenly chosen.

    Args:
        lengths: (rows,) int, tokens of each row.
        num_buckets: int, widths at most.
        multiple: int, of which every width is a multiple, but for the last if `max_length` is not.
        max_length: int, greatest width; the longest row's if None.

    Returns:
        (buckets,) int64, ascending; the last one holds the longest row.

    Raises:
        ValueError: There are no rows, or a number is below 1.

    Example:
        >>> bucket_widths(np.array([3, 4, 5, 30, 31, 100]), num_buckets=3).tolist()
        [8, 32, 100]
    """
    lengths = np.asarray(lengths)
    if lengths.size == 0:
        raise ValueError("bucket_widths needs the lengths of at least one row. Received none.")
    if num_buckets < 1 or multiple < 1:
        raise ValueError(
            "num_buckets and multiple must be at least 1. Received: "
            f"num_buckets={num_buckets}, multiple={multiple}"
        )
    cells = -(-np.maximum(lengths, 1) // multiple)
    counts = np.bincount(cells)
    used = np.flatnonzero(counts)
    up_to = np.cumsum(counts[used])
    if len(used) > _MOST_CANDIDATES:
        some = np.linspace(0, len(used) - 1, _MOST_CANDIDATES).astype(np.int64)
        used, up_to = used[some], up_to[some]
    rows = np.concatenate([[0], up_to])
    widths = used * multiple
    if max_length is not None:
        widths = np.minimum(widths, max_length)
    # cost[j]: padded tokens of all rows up to candidate j, with the buckets allowed so far.
    count = len(used)
    cost = rows[1:] * widths
    choices = []
    for _ in range(min(num_buckets, count) - 1):
        # A bucket that ends at j and begins after i holds rows[j+1] - rows[i+1] rows.
        split = cost[:, None] + (rows[None, 1:] - rows[1:, None]) * widths[None, :]
        split[np.tril_indices(count)] = np.iinfo(np.int64).max
        best = split.argmin(axis=0)
        better = split[best, np.arange(count)]
        choices.append(np.where(better < cost, best, -1))
        cost = np.minimum(cost, better)
    chosen = [count - 1]
    for choice in reversed(choices):
        if choice[chosen[-1]] >= 0:
            chosen.append(int(choice[chosen[-1]]))
    return np.unique(widths[chosen]).astype(np.int64)
