"""The rows that a frozen prefix is computed for: read once, and served with what was computed."""

import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_finetune.data.batches import read_ahead
from keras_finetune.data.buckets import bucket_widths, choose_num_buckets
from keras_finetune.data.pipeline import planned_dataset
from keras_finetune.data.plan import Plan, make_plan
from keras_finetune.data.weak_call import weakly
from keras_finetune.device import on_gpu

# Enough for full matrix products; more only takes memory. Longer rows come in smaller batches.
_TOKENS_PER_BATCH, _ON_GPU = 2_048, 8_192
_ROWS_PER_BATCH = 256
_BATCHES_COMPARED = 3
# Rows are read once, not in three epochs. Both a batch and a width's compilation are cheaper than
# in training, where they run backwards, too.
_PASSES, _FEWEST_BUCKETS = 1 / 3, 3

OTHER_BATCHES = "the data set gives other batches at every reading"

Replace = Callable[[Any, np.ndarray, int], Any]


class Block(NamedTuple):
    """Inputs of some rows, their width, and how many tokens of each are no padding, if known."""

    x: Any
    width: int
    lengths: np.ndarray | None


class Sample(NamedTuple):
    """Inputs of a few rows, their positions among all, their width, and lengths as in `Block`."""

    x: Any
    positions: np.ndarray
    width: int
    lengths: np.ndarray | None


@dataclass
class PlannedRows:
    """Rows that can be read in any order: a data set of this library, or arrays.

    Attributes:
        plan: From the number of an epoch to its plan.
        read: From row numbers, width and generator to `(x, y)` or `(x, y, sample_weight)`.
        lengths: (rows,) tokens of each row; None if all are as wide as they are.
        shuffled: Whether the plan's order is random.
        seed: Of the generator.
        key: Identifies the rows.
    """

    plan: Callable[[int], Plan]
    read: Callable[[np.ndarray, int, np.random.Generator], tuple[Any, ...]]
    lengths: np.ndarray | None
    shuffled: bool
    seed: int
    key: str

    def __post_init__(self) -> None:
        size = len(self.plan(0).lengths)
        tokens = _ON_GPU if on_gpu() else _TOKENS_PER_BATCH
        if self.lengths is None:
            at_once = _rows_at_once(self.read(np.arange(1), 1, np.random.default_rng(0))[0], tokens)
            starts = range(0, size, at_once)
            ends = (min(start + at_once, size) for start in starts)
            self._batches = [(np.arange(*ends), 1) for ends in zip(starts, ends, strict=True)]
        else:
            # Of similar length, in an order that depends on the lengths alone.
            work = _PASSES * self.lengths.sum() / tokens
            buckets = choose_num_buckets(work, _FEWEST_BUCKETS)
            # A model may have no more positions than the data's own widths need.
            widest = int(self.plan(0).widths.max())
            widths = bucket_widths(self.lengths, buckets, max_length=widest)
            planned = make_plan(self.lengths, tokens_per_batch=tokens, widths=widths, shuffle=True)
            self._batches = [(batch.rows, batch.width) for batch in planned]
            self.key = f"{self.key} {tokens}"  # Which decides the order of what is stored.
        self.num_rows = size
        self.num_blocks = len(self._batches)
        self._position = np.empty(size, np.int64)
        self._position[np.concatenate([rows for rows, _ in self._batches])] = np.arange(size)

    def refusal(self) -> str | None:
        """Say why these rows cannot be cached; None if they can."""
        rows, width = self._batches[0]
        rng = np.random.default_rng(0)
        before = rng.bit_generator.state
        one, other = (self.read(rows[:2], width, rng)[0] for _ in range(2))
        same = [
            np.array_equal(a, b)
            for a, b in zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=True)
        ]
        if all(same) and rng.bit_generator.state == before:
            return None
        return "the inputs are drawn anew in every epoch"

    def blocks(self) -> Iterator[Block]:
        """Yield the inputs of all rows, in the order that `positions` tells."""
        for rows, width in self._batches:
            x = self.read(rows, width, np.random.default_rng(0))[0]
            lengths = None if self.lengths is None else self.lengths[rows]
            yield Block(x, _width_within(x, width), lengths)

    def sample(self) -> Sample:
        """Return the inputs of a few rows, padded otherwise than in `blocks`."""
        if self.lengths is None:
            rows, width = self._batches[0][0][:4], 1
        else:
            # At another width than they were computed at, where the plans have another.
            shortest = np.argsort(self.lengths, kind="stable")[:4]
            computed = next(width for rows, width in self._batches if shortest[0] in rows)
            rows = shortest[self.lengths[shortest] <= computed]
            width = max(width for _, width in self._batches)
            if computed == width:
                width = int(-(-self.lengths[rows].max() // 8) * 8)
                width = min(width, computed)
        x = self.read(rows, width, np.random.default_rng(0))[0]
        lengths = None if self.lengths is None else self.lengths[rows]
        return Sample(x, self._position[rows], _width_within(x, width), lengths)

    def serve(self, replace: Replace, shapes: dict[str, Any]) -> Any:
        """Return the same data set with other inputs.

        Args:
            replace: From the inputs, positions among the blocks' rows, and the width, to a dict
                that stands in their place.
            shapes: The shapes of what is in it, None where they vary.
        """

        def read(rows: np.ndarray, width: int, rng: np.random.Generator) -> tuple[Any, ...]:
            x, *rest = self.read(rows, width, rng)
            return replace(x, self._position[rows], _width_within(x, width)), *rest

        return planned_dataset(self.plan, read, shuffled=self.shuffled, seed=self.seed)


@dataclass
class ReplayedRows:
    """The batches of a `tf.data.Dataset`, which come in the same order at every reading.

    Attributes:
        dataset: The data set.
    """

    dataset: Any
    lengths: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.num_blocks = int(self.dataset.cardinality())
        first = keras.tree.flatten(self.dataset.element_spec)
        self.num_rows = self.num_blocks * (first[0].shape[0] or self._first_size())

    def _first_size(self) -> int:
        return len(keras.tree.flatten(next(self.dataset.as_numpy_iterator(), np.empty(0)))[0])

    @functools.cached_property
    def key(self) -> str:
        """Identifies the rows: nothing but all of them does."""
        return digest(self._digests)

    @functools.cached_property
    def _digests(self) -> list[str]:
        return [digest(_inputs_of(element)) for element in self.dataset.as_numpy_iterator()]

    def refusal(self) -> str | None:
        """Say why these rows cannot be cached; None if they can."""
        if self.num_blocks < 1:
            return "the data set does not say how many batches it has"
        readings = [
            [
                keras.tree.flatten(x)
                for x in self.dataset.take(_BATCHES_COMPARED).as_numpy_iterator()
            ]
            for _ in range(2)
        ]
        for one, other in zip(*readings, strict=True):
            if not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True)):
                return OTHER_BATCHES
        return None

    def blocks(self) -> Iterator[Block]:
        """Yield the inputs of all batches.

        Raises:
            OtherBatchesError: They are not those that `key` identifies.
        """
        return (Block(x, _width(x), None) for x, _ in self._batches())

    def _batches(self) -> Iterator[tuple[Any, list[Any]]]:
        known = self._digests
        for step, element in enumerate(self.dataset.as_numpy_iterator()):
            x = _inputs_of(element)
            if step >= len(known) or digest(x) != known[step]:
                raise OtherBatchesError(
                    f"Batch {step} of the data set holds other rows than when the frozen layers "
                    "were computed. Give fit cache_frozen=False, or a data set that gives the same "
                    "batches at every reading."
                )
            yield x, list(element[1:]) if isinstance(element, tuple) else []

    def sample(self) -> Sample:
        """Return the inputs of the first batch."""
        x = _inputs_of(next(self.dataset.as_numpy_iterator()))
        return Sample(x, np.arange(len(keras.tree.flatten(x)[0])), _width(x), None)

    def serve(self, replace: Replace, shapes: dict[str, Any]) -> Any:
        """Return the same data set with other inputs; arguments as for `PlannedRows`."""
        import tensorflow as tf

        def batches() -> Iterator[tuple[Any, ...]]:
            first = 0
            for x, rest in self._batches():
                rows = first + np.arange(len(keras.tree.flatten(x)[0]))
                first += len(rows)
                yield replace(x, rows, _width(x)), *rest

        spec = self.dataset.element_spec
        rest = spec[1:] if isinstance(spec, tuple) else ()
        replaced = {
            name: tf.TensorSpec((None, *shapes[name][1:]), np.asarray(x).dtype)
            for name, x in next(batches())[0].items()
        }
        made = tf.data.Dataset.from_generator(weakly(batches), output_signature=(replaced, *rest))
        dataset = read_ahead(made, self.num_blocks)
        dataset.batches = batches
        return dataset


class OtherBatchesError(ValueError):
    """A data set gave other batches than before."""


def _inputs_of(element: Any) -> Any:
    return element[0] if isinstance(element, tuple) else element


def _rows_at_once(x: Any, tokens: int) -> int:
    leaf = keras.tree.flatten(x)[0]
    is_text = leaf.ndim > 1 and np.issubdtype(leaf.dtype, np.integer)
    return min(max(tokens // leaf.shape[1], 1), _ROWS_PER_BATCH) if is_text else _ROWS_PER_BATCH


def _width(x: Any) -> int:
    leaf = keras.tree.flatten(x)[0]
    return leaf.shape[1] if leaf.ndim > 1 else 1


def _width_within(x: Any, planned: int) -> int:
    """The width of inputs: the last token of a packed row is only a label, and not among them."""
    widths = [leaf.shape[1] for leaf in keras.tree.flatten(x) if leaf.ndim > 1]
    return min(planned, max(widths, default=planned))


def digest(x: Any) -> str:
    """Identify arrays by what they hold."""
    found = hashlib.blake2b(digest_size=16)
    for leaf in keras.tree.flatten(x):
        array = np.asarray(leaf)
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()
