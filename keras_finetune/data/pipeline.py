"""Carrying out a plan as a `tf.data.Dataset`: gather, pad, prefetch."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_finetune.data.buckets import bucket_widths
from keras_finetune.data.plan import Plan, make_plan
from keras_finetune.data.store import Store

Features = Callable[[dict[str, np.ndarray], np.random.Generator], tuple[Any, ...]]


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
    ragged: str = "token_ids",
    batch_size: int = 32,
    tokens_per_batch: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    pad_values: Mapping[str, float] | None = None,
    num_buckets: int = 6,
) -> Any:
    """Make a `tf.data.Dataset` of a store's rows in batches of similar length.

    The result has three attributes more than others have: `plan`, a function from the epoch's
    number to its `Plan`; `epochs`, an `EpochCounter`; and `shuffled`. Every reading carries out the
    next epoch, so that `model.fit` sees another order in each; `FineTuner` sets the number itself.
    What `tf.data` derives from it (`map`, `take`, ...) reads the same rows, without the attributes.

    Args:
        store: Encoded rows.
        features: From the columns of a batch and a random generator to `(x, y)` or `(x, y,
            sample_weight)`. Columns are arrays (batch, ...), ragged ones padded to the batch's
            width; `padding_mask`, (batch, width) bool, is True on real tokens. The generator's
            state is a function of seed, epoch and step.
        ragged: The column whose lengths decide the buckets.
        batch_size: int, rows in a batch.
        tokens_per_batch: int, tokens in a batch, padding included, in place of `batch_size`.
        shuffle: Whether rows and batches are in random order, another in every epoch.
        seed: int >= 0.
        pad_values: What ragged columns are padded with, 0 if not named.
        num_buckets: int, different widths at most.

    Returns:
        A `tf.data.Dataset` that knows its number of batches.

    Example:
        >>> import tempfile
        >>> from keras_finetune.data import Ragged, build_store
        >>> rows = {"token_ids": Ragged(np.array([5, 6, 7]), np.array([0, 1, 3]))}
        >>> store = build_store(tempfile.mkdtemp() + "/store", "v1", lambda: [rows])
        >>> dataset = make_dataset(store, lambda batch, rng: (batch["token_ids"],), num_buckets=1)
        >>> [x.numpy().shape for (x,) in dataset]
        [(2, 8)]
    """
    import tensorflow as tf

    lengths = store.lengths(ragged)
    widths = None
    if store.is_ragged(ragged):
        widths = bucket_widths(lengths, num_buckets) if len(lengths) else None
    elif len(lengths):
        widths = lengths[:1]
    counter = EpochCounter()

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

    def batch_of(rows: np.ndarray, width: int, rng: np.random.Generator) -> tuple[Any, ...]:
        return features(_columns(store, rows, width, ragged, pad_values or {}), rng)

    def batches() -> Iterator[tuple[Any, ...]]:
        epoch = counter.next
        counter.next += 1
        for step, (rows, width) in enumerate(plan(epoch)):
            yield batch_of(rows, width, np.random.default_rng([seed, epoch, step]))

    first = plan(0)
    signature = tf.nest.map_structure(
        _any_size(tf), batch_of(*first[0], np.random.default_rng(seed))
    )
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    dataset = dataset.prefetch(tf.data.AUTOTUNE)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(first.num_steps))
    dataset.plan, dataset.epochs, dataset.shuffled = plan, counter, shuffle
    return dataset


def _columns(
    store: Store, rows: np.ndarray, width: int, ragged: str, pad_values: Mapping[str, float]
) -> dict[str, np.ndarray]:
    columns = {}
    for name in store.columns:
        to_width = width if store.is_ragged(name) else None
        columns[name] = store.gather(name, rows, to_width, pad_values.get(name, 0))
    columns["padding_mask"] = np.arange(width) < store.lengths(ragged)[rows][:, None]
    return columns


def _any_size(tf: Any) -> Callable[[Any], Any]:
    """From an array to its type with any number of rows, and any width if it has one."""

    def spec(array: Any) -> Any:
        array = np.asarray(array)
        shape = [None] * min(array.ndim, 2) + list(array.shape[2:])
        return tf.TensorSpec(shape, array.dtype)

    return spec
