"""The rows in what goes into `fit`, if frozen layers can run on them once."""

from typing import Any

import keras
import numpy as np

from keras_finetune.data.plan import Plan, make_plan
from keras_finetune.tuning.data_kinds import arrays_in, count_rows, is_arrays, is_tf_dataset
from keras_finetune.tuning.prefix_rows import OTHER_BATCHES, PlannedRows, ReplayedRows, digest


def rows_of(
    x: Any, y: Any, sample_weight: Any = None, *, batch_size: int = 32, shuffle: bool = True
) -> "PlannedRows | ReplayedRows | str":
    """Find the rows in what goes into `fit`.

    Args:
        x: A data set of this library, arrays, or a `tf.data.Dataset`.
        y: Labels, if `x` is arrays.
        sample_weight: Weights of the rows, if `x` is arrays.
        batch_size: int, rows in a batch of arrays.
        shuffle: Whether arrays are shuffled.

    Returns:
        The rows, or why there are none to be found.
    """
    if len(getattr(x, "ragged", ())) > 1:
        # Activations of either side would be cut to the lengths of both together.
        return "its rows have several lengths, as those of source and target"
    if getattr(x, "read", None) is not None:
        lengths = x.plan(0).lengths
        key = x.key + digest(x.read(np.arange(1), int(lengths[0]), np.random.default_rng(0))[0])
        return PlannedRows(x.plan, x.read, lengths, x.shuffled, x.seed, key)
    if _is_text_or_left_out(x):
        return "some inputs are text, or left out"
    if is_arrays(x):
        rest = [v for v in (y, sample_weight) if v is not None]
        if any(leaf is None for leaf in keras.tree.flatten(rest)):
            return "some labels or weights are left out"
        return _array_rows(x, rest, batch_size, shuffle)
    if is_tf_dataset(x):
        return OTHER_BATCHES if _reshuffles(x) else ReplayedRows(x)
    return f"{type(x).__name__} may give other rows in every epoch"


def _array_rows(x: Any, rest: list[Any], batch_size: int, shuffle: bool) -> PlannedRows:
    x, *rest = (
        _as_tuples(keras.tree.map_structure(lambda leaf: next(arrays_in(leaf, "x")), part))
        for part in (x, *rest)
    )
    ones = np.ones(count_rows(x), np.int64)
    seed = int(np.random.randint(2**31)) if shuffle else 0

    def plan(epoch: int) -> Plan:
        widths = np.ones(1, np.int64)
        if shuffle:
            return make_plan(ones, batch_size, widths=widths, seed=seed, epoch=epoch)
        return make_plan(ones, batch_size, widths=widths, shuffle=False)

    def read(rows: np.ndarray, width: int, rng: np.random.Generator) -> tuple[Any, ...]:
        return tuple(keras.tree.map_structure(lambda leaf: leaf[rows], part) for part in (x, *rest))

    return PlannedRows(plan, read, None, shuffle, seed, digest(x))


def _reshuffles(dataset: Any) -> bool:
    """Whether a `tf.data.Dataset` shuffles anew: to read it at all changes the next reading."""
    return getattr(dataset, "_reshuffle_each_iteration", False) is not False or any(
        map(_reshuffles, dataset._inputs())
    )


def _is_text_or_left_out(x: Any) -> bool:
    leaves = keras.tree.flatten(x.element_spec if is_tf_dataset(x) else x)
    kinds = [getattr(getattr(leaf, "dtype", None), "name", "") for leaf in leaves]
    return any(leaf is None for leaf in leaves) or any("str" in x or x == "object" for x in kinds)


def _as_tuples(x: Any) -> Any:
    """The same nest with tuples for lists, which `tf.data` would make one tensor of."""
    if isinstance(x, dict):
        return {name: _as_tuples(value) for name, value in x.items()}
    return tuple(map(_as_tuples, x)) if isinstance(x, list | tuple) else x
