"""Carrying out a plan as a `tf.data.Dataset`: gather, pad, prefetch."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_finetune.data.batches import batches_dataset, count_batches_of_a_call
from keras_finetune.data.buckets import bucket_widths, choose_num_buckets
from keras_finetune.data.int_checks import checked_int
from keras_finetune.data.plan import Plan, check_sizes, make_plan
from keras_finetune.data.store import Store

Features = Callable[[dict[str, np.ndarray], np.random.Generator], tuple[Any, ...]]
Read = Callable[[np.ndarray, int, np.random.Generator], tuple[Any, ...]]


@dataclass
class EpochCounter:
    """Which epoch a data set carries out when it is next read from the start.

    Attributes:
        next: Number of that epoch; goes up by one with every reading.
    """

    next: int = 0


def make_dataset(
    store: Store,
    features: Features,
    *,
    ragged: str | Sequence[str] = "token_ids",
    batch_size: int = 32,
    tokens_per_batch: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    pad_values: Mapping[str, float] | None = None,
    num_buckets: int | None = None,
    max_length: int | Mapping[str, int] | None = None,
) -> Any:
    """Make a `tf.data.Dataset` of a store's rows in batches of similar length.

    Every reading carries out the next epoch, so that `model.fit` sees another order in each.
    Keras on JAX and PyTorch may read a first batch to build a model, which counts as an epoch;
    `FineTuner` therefore sets the number itself. The result has attributes of its own:

    - `plan`: a function from the epoch's number to its `Plan`;
    - `epochs`: an `EpochCounter`;
    - `shuffled`: whether it was shuffled;
    - `start_at(epoch, step=0)`: the data set of that epoch from that step on, in every reading;
    - `read(rows, width, rng)`: what a batch of these rows holds;
    - `key`: what went into the store;
    - `ragged`: the columns whose lengths decide the buckets;
    - `as_numpy_iterator()`: as of any data set, but without TensorFlow, which takes longer to hand
      a batch to Python than it takes to make one.

    What `tf.data` derives from it (`map`, `take`, ...) reads the same rows, without them.

    Args:
        store: Encoded rows.
        features: From the columns of a batch and a random generator to `(x, y)` or `(x, y,
            sample_weight)`. Columns are arrays (batch, ...), ragged ones padded to the batch's
            width, or to a multiple of 8 where they are longer; `padding_mask`, (batch, width)
            bool, is True on real tokens. The generator's state is a function of seed, epoch and
            step. What varies in size from batch to batch must differ between the narrowest batch
            and the widest.
        ragged: The column whose lengths decide the buckets. Of several, as of source and target,
            the sum of the lengths decides; each is padded to the least of a few widths of its own,
            and the mask of each but the first is `<its name>_mask`.
        batch_size: int, rows in a batch.
        tokens_per_batch: int, tokens in a batch, padding included, in place of `batch_size`.
        shuffle: Whether rows and batches are in random order, another in every epoch.
        seed: int >= 0.
        pad_values: What ragged columns are padded with, 0 if not named.
        num_buckets: int, different widths at most. Default: from 2 to 24, more for more batches,
            and fewer where a backend compiles a whole step for each.
        max_length: int, which no width exceeds, as widths are multiples of 4 else: positions that
            a model knows. Of several ragged columns for each by name.

    Returns:
        A `tf.data.Dataset` that knows its number of batches.

    Raises:
        ValueError: The store has no rows or no such column, or a number is out of range.

    Example:
        >>> import tempfile
        >>> from keras_finetune.data import Ragged, build_store
        >>> rows = {"token_ids": Ragged(np.array([5, 6, 7]), np.array([0, 1, 3]))}
        >>> store = build_store(tempfile.mkdtemp() + "/store", "v1", lambda: [rows])
        >>> dataset = make_dataset(store, lambda batch, rng: (batch["token_ids"],), num_buckets=1)
        >>> [x.numpy().shape for (x,) in dataset]
        [(2, 4)]
    """
    check_sizes(batch_size, tokens_per_batch)
    checked_int("seed", seed, 0)
    if not isinstance(shuffle, bool | np.bool_):
        raise ValueError(f"shuffle must be True or False. Received: {shuffle!r}.")
    names = (ragged,) if isinstance(ragged, str) else tuple(ragged)
    lengths = np.sum([store.lengths(name) for name in names], axis=0)
    widths = None
    if len(names) > 1 or store.is_ragged(names[0]):
        if num_buckets is None:
            tokens = tokens_per_batch or batch_size * lengths.mean() if len(lengths) else 1.0
            num_buckets = choose_num_buckets(lengths.sum() / max(tokens, 1.0))
        most = max_length if isinstance(max_length, int) else None
        widths = bucket_widths(lengths, num_buckets, max_length=most) if len(lengths) else None
    elif len(lengths):
        widths = lengths[:1]

    def plan(epoch: int) -> Plan:
        return make_plan(
            lengths,
            batch_size,
            tokens_per_batch=tokens_per_batch,
            widths=widths,
            shuffle=shuffle,
            seed=seed,
            epoch=epoch,
        )

    own: dict[str, np.ndarray] = {}
    if len(names) > 1 and len(lengths):
        longest = max_length if isinstance(max_length, Mapping) else {}
        own = {
            name: bucket_widths(store.lengths(name), num_buckets or 1, max_length=longest.get(name))
            for name in names
        }

    def read(rows: np.ndarray, width: int, rng: np.random.Generator) -> tuple[Any, ...]:
        padded = {names[0]: width}
        for name, candidates in own.items():
            needed = store.lengths(name)[rows].max()
            padded[name] = int(candidates[np.searchsorted(candidates, needed)])
        return features(_columns(store, rows, padded, pad_values or {}), rng)

    bounds = own or ({} if widths is None else {names[0]: widths})
    others = [x for x in store.columns if x not in names and store.is_ragged(x)]
    longer = any((store.lengths(x) > store.lengths(names[0])).any() for x in others)

    def example(end: int) -> tuple[Any, ...]:
        """One row, at the least of all widths (0) or the largest (-1)."""
        padded = {name: int(every[end]) for name, every in bounds.items()}
        width = (8, 16)[end] if longer else None
        columns = _columns(store, np.arange(1), padded, pad_values or {}, others=width)
        return features(columns, np.random.default_rng(seed))

    signature = None
    if bounds and (own or longer):  # The widths of one column say nothing of another's.
        signature = _signature(example(0), example(-1))
    dataset = planned_dataset(plan, read, shuffled=shuffle, seed=seed, signature=signature)
    dataset.key, dataset.ragged = store.key, names
    return dataset


def planned_dataset(
    plan: Callable[[int], Plan],
    read: Read,
    *,
    shuffled: bool,
    seed: int = 0,
    signature: Any = None,
) -> Any:
    """Make a `tf.data.Dataset` that carries out plans; see `make_dataset`, which calls this.

    Args:
        plan: From the number of an epoch to its plan.
        read: From row numbers, the width to pad them to, and a random generator to `(x, y)` or
            `(x, y, sample_weight)`.
        shuffled: Whether the plan's rows are in random order.
        seed: int >= 0, of the random generator.
        signature: The data set's `element_spec`. Default: what the narrowest batch and the widest
            tell.
    """
    counter = EpochCounter()
    # Of the first all sizes are told, and the end of an epoch may meet the next.
    plan_of = functools.lru_cache(maxsize=3)(plan)

    def batch(epoch: int, step: int) -> tuple[Any, ...]:
        rows, width = plan_of(epoch)[step]
        return read(rows, width, np.random.default_rng([seed, epoch, step]))

    def next_epoch() -> int:
        counter.next += 1
        return counter.next - 1

    def start_at(epoch: int, step: int = 0) -> Any:
        rest = plan_of(epoch).start_at(step)
        steps = range(step, step + rest.num_steps, at_once)
        dataset = batches_dataset(lambda: epoch, steps, batch, signature)
        dataset.plan, dataset.epochs, dataset.shuffled = lambda _: rest, EpochCounter(), shuffled
        return dataset

    first = plan_of(0)
    sizes = first.sizes * first.widths
    largest = batch(0, int(sizes.argmax()))
    if signature is None:
        extremes = (int(first.widths.argmin()), int(first.widths.argmax()))
        signature = _signature(*(batch(0, step) for step in extremes))
    at_once = count_batches_of_a_call(largest, first.num_steps)
    dataset = batches_dataset(next_epoch, range(0, first.num_steps, at_once), batch, signature)
    dataset.plan, dataset.epochs, dataset.shuffled = plan_of, counter, shuffled
    dataset.start_at, dataset.read, dataset.seed = start_at, read, seed
    return dataset


def _columns(
    store: Store,
    rows: np.ndarray,
    padded: Mapping[str, int],
    pad_values: Mapping[str, float],
    *,
    others: int | None = None,
) -> dict[str, np.ndarray]:
    """Read some rows.

    Args:
        store: The store.
        rows: Their numbers.
        padded: The width of each column that has one of its own; the others have the first's.
        pad_values: What ragged columns are padded with.
        others: The width of the ragged columns that are not in `padded`. Default: the first's, or
            more where a row has more.
    """
    first = next(iter(padded))
    columns = {}
    for name in store.columns:
        to_width = padded.get(name, padded[first])
        if name not in padded and store.is_ragged(name):
            # A column with rows longer than those that decide the width is not cut.
            longest = int(store.lengths(name)[rows].max())
            to_width = (
                others if others else to_width if longest <= to_width else -(-longest // 8) * 8
            )
        columns[name] = store.gather(name, rows, to_width, pad_values.get(name, 0))
    for name, width in padded.items():
        mask = np.arange(width) < store.lengths(name)[rows][:, None]
        columns["padding_mask" if name == first else f"{name}_mask"] = mask
    return columns


def _signature(narrow: tuple[Any, ...], wide: tuple[Any, ...]) -> Any:
    """The type of every array: any number of rows, and any size where the two batches differ."""
    import tensorflow as tf

    def spec(one: Any, other: Any) -> Any:
        if one is None or other is None:
            raise ValueError(
                "What makes the batches returned None in the place of an array. Expected (x, y) or "
                "(x, y, sample_weight); leave out at the end what there is not."
            )
        one, other = np.asarray(one), np.asarray(other)
        sizes = zip(one.shape[1:], other.shape[1:], strict=True)
        shape = [None, *(size if size == again else None for size, again in sizes)]
        return tf.TensorSpec(shape[: one.ndim], np.result_type(one.dtype, other.dtype))

    return tf.nest.map_structure(spec, narrow, wide)
