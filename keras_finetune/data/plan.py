"""The batches of an epoch: which rows, in which order, padded to which width."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from keras_finetune.data.buckets import bucket_widths
from keras_finetune.data.int_checks import checked_int


class Batch(NamedTuple):
    """Row numbers, and the width that they are padded to."""

    rows: np.ndarray
    width: int


@dataclass(frozen=True, eq=False)
class Plan:
    """The batches of an epoch, as numbers.

    Attributes:
        rows: Row numbers of all batches, one after the other.
        starts: (batches,) position in `rows` of each batch's first row, in the order of steps.
        sizes: (batches,) rows of each batch.
        widths: (batches,) width of each batch.
        lengths: Tokens of each row of the data set.
    """

    rows: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    widths: np.ndarray
    lengths: np.ndarray

    @property
    def num_steps(self) -> int:
        """Batches in this plan."""
        return len(self.starts)

    @property
    def num_tokens(self) -> int:
        """Tokens that are computed, padding included."""
        return int((self.sizes * self.widths).sum())

    @property
    def num_shapes(self) -> int:
        """Different shapes of batches."""
        return len(set(zip(self.sizes.tolist(), self.widths.tolist(), strict=True)))

    @property
    def padding_share(self) -> float:
        """Share of the computed tokens that is padding."""
        real = sum(int(np.minimum(self.lengths[b.rows], b.width).sum()) for b in self)
        return 1.0 - real / max(self.num_tokens, 1)

    def start_at(self, step: int) -> "Plan":
        """Return the plan without its first steps, to go on where a run stopped."""
        if not 0 <= step <= self.num_steps:
            raise ValueError(f"step must be from 0 to {self.num_steps}. Received: {step!r}")
        kept = slice(step, None)
        return Plan(self.rows, self.starts[kept], self.sizes[kept], self.widths[kept], self.lengths)

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> Batch:
        start = self.starts[step]
        return Batch(self.rows[start : start + self.sizes[step]], int(self.widths[step]))

    def __iter__(self) -> Iterator[Batch]:
        return (self[step] for step in range(self.num_steps))


def make_plan(
    lengths: np.ndarray,
    batch_size: int = 32,
    *,
    tokens_per_batch: int | None = None,
    widths: np.ndarray | None = None,
    shuffle: bool = True,
    seed: int = 0,
    epoch: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Plan:
    """Plan the batches of an epoch, as a pure function of the arguments.

    With `shuffle`, rows of similar length share a batch; what is left over of one width joins the
    next wider one, so that only the last batch is partial and every epoch has as many steps.
    Without, rows keep their order.

    Args:
        lengths: (rows,) int, tokens of each row.
        batch_size: int, rows in a batch, over all processes.
        tokens_per_batch: int, tokens in a batch, padding included, in place of `batch_size`. A
            batch holds at least one row for each process, even one wider than this. Without
            `shuffle`, every batch has as many rows as there is room for at the greatest width.
        widths: (buckets,) ascending ints; `bucket_widths(lengths)` if None.
        shuffle: Whether rows and batches are in random order.
        seed: int >= 0.
        epoch: int >= 0; every epoch has an order of its own.
        process_index: int, which of the processes this is.
        process_count: int, processes that share the data, an equal part of every batch each;
            fewer rows than that at the very end are dropped.

    Returns:
        A `Plan`.

    Raises:
        ValueError: There are no rows, a number is out of range, or a row is longer than the
            greatest width.

    Example:
        >>> plan = make_plan(np.array([3, 9, 4, 12, 5]), batch_size=2, widths=np.array([8, 16]))
        >>> plan.num_steps, sorted(batch.width for batch in plan)
        (3, [8, 16, 16])
    """
    lengths = np.asarray(lengths)
    if lengths.size == 0:
        raise ValueError("There are no rows to plan. Check the split or the file they come from.")
    widths = bucket_widths(lengths) if widths is None else np.asarray(widths, np.int64)
    _check(lengths, batch_size, tokens_per_batch, widths, seed, epoch)
    if not 0 <= process_index < process_count:
        raise ValueError(
            f"process_index must be from 0 to process_count - 1. Received: process_index="
            f"{process_index}, process_count={process_count}"
        )
    sizes = np.full(len(widths), batch_size)
    if tokens_per_batch is not None:
        sizes = np.maximum(tokens_per_batch // widths // process_count, 1) * process_count
    elif batch_size % process_count:
        raise ValueError(
            f"batch_size must be a multiple of process_count. Received: batch_size={batch_size}, "
            f"process_count={process_count}"
        )
    if shuffle:
        plan = _bucketed(lengths, widths, sizes, np.random.default_rng([seed, epoch]))
    else:
        plan = _in_order(lengths, widths, int(sizes[-1]))
    return plan if process_count == 1 else _share(plan, process_index, process_count)


def check_sizes(batch_size: Any, tokens_per_batch: Any) -> None:
    """Require what says how large a batch is to be an int of at least 1; one of both may be None.

    Args:
        batch_size: Rows in a batch.
        tokens_per_batch: Tokens in a batch, in its place.

    Raises:
        ValueError: One is no int, or is below 1.
    """
    if tokens_per_batch is not None:
        checked_int("tokens_per_batch", tokens_per_batch, 1)
    if tokens_per_batch is None or batch_size is not None:
        checked_int("batch_size", batch_size, 1)


def _bucketed(
    lengths: np.ndarray, widths: np.ndarray, sizes: np.ndarray, rng: np.random.Generator
) -> Plan:
    buckets = np.searchsorted(widths, lengths).astype(np.uint8 if len(widths) < 256 else np.int64)
    shuffled = rng.permutation(len(lengths))
    rows = shuffled[np.argsort(buckets[shuffled], kind="stable")]
    ends = np.cumsum(np.bincount(buckets, minlength=len(widths)))
    starts, counts, used = [], [], []
    position = 0
    for width, size, end in zip(widths, sizes, ends, strict=True):
        full = (end - position) // size
        starts.append(position + np.arange(full) * size)
        counts.append(np.full(full, size))
        used.append(np.full(full, width))
        position += full * size
    order = rng.permutation(sum(map(len, starts)))
    rest = len(rows) - position
    if rest:
        starts.append(np.array([position]))
        counts.append(np.array([rest]))
        used.append(widths[-1:])
        order = np.append(order, len(order))
    return Plan(
        rows,
        np.concatenate(starts)[order],
        np.concatenate(counts)[order],
        np.concatenate(used)[order],
        lengths,
    )


def _in_order(lengths: np.ndarray, widths: np.ndarray, size: int) -> Plan:
    starts = np.arange(0, len(lengths), size)
    counts = np.minimum(size, len(lengths) - starts)
    longest = np.maximum.reduceat(lengths, starts)
    chosen = widths[np.searchsorted(widths, longest)]
    return Plan(np.arange(len(lengths)), starts, counts, chosen, lengths)


def _share(plan: Plan, index: int, count: int) -> Plan:
    """The part of one process: the same number of rows in every batch, at the same width."""
    sizes = plan.sizes // count
    kept = sizes > 0
    starts = plan.starts + index * sizes
    return Plan(plan.rows, starts[kept], sizes[kept], plan.widths[kept], plan.lengths)


def _check(
    lengths: np.ndarray,
    batch_size: int,
    tokens_per_batch: int | None,
    widths: np.ndarray,
    seed: int,
    epoch: int,
) -> None:
    check_sizes(batch_size, tokens_per_batch)
    checked_int("seed", seed, 0)
    checked_int("epoch", epoch, 0)
    if (np.diff(widths) <= 0).any() or not len(widths):
        raise ValueError(f"widths must ascend. Received: {widths.tolist()}")
    longest = int(lengths.max())
    if longest > widths[-1]:
        raise ValueError(
            f"The longest row has {longest} tokens, but the greatest width is {widths[-1]}. "
            "Truncate rows when encoding (max_length), or give a greater width."
        )
