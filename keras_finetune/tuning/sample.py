"""A few batches that stand for a whole data set, to be timed."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from keras_finetune.data.pipeline import planned_dataset
from keras_finetune.data.plan import Plan
from keras_finetune.tuning.data_kinds import FitData, is_arrays, is_tf_dataset

# Batches that are timed, spread over the widths of an epoch.
_TIMED = 8


def sample_data(data: FitData, at_once: int) -> FitData:
    """Take a few batches: the widest, for warming up, and some of all widths.

    Args:
        data: What goes into `fit`.
        at_once: int, steps of an execution.

    Returns:
        The same with some of the rows, those of the validation data too.
    """
    count = max(_TIMED, 2 * at_once)
    validation = data.validation_data
    if validation is not None and not isinstance(validation, tuple):
        validation = _some_batches(validation, count, at_once)
    elif validation is not None:
        size = batch_size_of(data, "validation_batch_size") * (count + at_once)
        validation = tuple(_some_rows(part, size) for part in validation)
    if is_arrays(data.x):
        share = data.fit_args.get("validation_split") or 0.0
        size = int(batch_size_of(data) * (count + at_once) / (1 - share))
        args = dict(data.fit_args)
        if args.get("sample_weight") is not None:
            args["sample_weight"] = _some_rows(args["sample_weight"], size)
        x, y = (_some_rows(part, size) for part in (data.x, data.y))
        return FitData(x, y, validation, args)
    x = _some_batches(data.x, count, at_once)
    args = {k: v for k, v in data.fit_args.items() if k != "steps_per_epoch"}
    if data.fit_args.get("steps_per_epoch") and not is_tf_dataset(data.x):
        args["steps_per_epoch"] = count + at_once
    return FitData(x, None, validation, args)


def _some_batches(x: Any, count: int, at_once: int) -> Any:
    if getattr(x, "read", None) is None:
        return x.take(count + at_once) if is_tf_dataset(x) else x
    plan = x.plan(0)
    by_width = np.argsort(plan.widths * plan.sizes, kind="stable")
    middles = np.maximum((np.arange(count) + 0.5) / count * len(by_width) - 0.5, 0).astype(int)
    chosen = np.concatenate([np.repeat(by_width[-1], at_once), by_width[middles]])
    batches = [plan[int(step)] for step in chosen]
    rows = np.concatenate([batch.rows for batch in batches])
    sizes = np.array([len(batch.rows) for batch in batches])
    widths = np.array([batch.width for batch in batches])
    starts = np.cumsum(sizes) - sizes
    part = Plan(np.arange(len(rows)), starts, sizes, widths, plan.lengths[rows])

    def read(numbers: np.ndarray, width: int, rng: np.random.Generator) -> tuple[Any, ...]:
        found: tuple[Any, ...] = x.read(rows[numbers], width, rng)
        return found

    sample = planned_dataset(
        lambda epoch: part, read, shuffled=x.shuffled, seed=x.seed, signature=x.element_spec
    )
    sample.key = f"{getattr(x, 'key', '')} sample {time.time_ns()}"
    sample.ragged = getattr(x, "ragged", ())
    return sample


def mean_step_of_sample(data: FitData, sample: FitData, at_once: int) -> float:
    """Tell how large a step of all data is on average, as a share of those of a sample.

    Args:
        data: What goes into `fit`.
        sample: From `sample_data`.
        at_once: int, steps of an execution; the sample's first one is not timed.
    """
    if not (hasattr(data.x, "plan") and hasattr(sample.x, "plan")):
        return 1.0
    plans = data.x.plan(0), sample.x.plan(0)
    whole, some = (plan.widths * plan.sizes for plan in plans)
    return float(whole.mean() / some[at_once:].mean())


def repeated(data: FitData, copies: int) -> FitData:
    """Return data whose training rows come several times over.

    Args:
        data: From `sample_data`, without validation data.
        copies: int, how often.
    """
    if is_arrays(data.x):
        x, y = (_repeated_rows(part, copies) for part in (data.x, data.y))
        weights = _repeated_rows(data.fit_args.get("sample_weight"), copies)
        return FitData(x, y, None, {**data.fit_args, "sample_weight": weights})
    if getattr(data.x, "read", None) is not None:
        return replace(data, x=_repeated_batches(data.x, copies))
    return replace(data, x=data.x.repeat(copies))


def _repeated_batches(x: Any, copies: int) -> Any:
    plan = x.plan(0)
    count = len(plan.lengths)
    rows = np.concatenate([plan.rows + count * i for i in range(copies)])
    starts = np.concatenate([plan.starts + count * i for i in range(copies)])
    sizes, widths = np.tile(plan.sizes, copies), np.tile(plan.widths, copies)
    more = Plan(rows, starts, sizes, widths, np.tile(plan.lengths, copies))

    def read(numbers: np.ndarray, width: int, rng: np.random.Generator) -> tuple[Any, ...]:
        found: tuple[Any, ...] = x.read(numbers % count, width, rng)
        return found

    made = planned_dataset(
        lambda epoch: more, read, shuffled=x.shuffled, seed=x.seed, signature=x.element_spec
    )
    made.key = f"{x.key} {copies} {time.time_ns()}"
    made.ragged = getattr(x, "ragged", ())
    return made


def _repeated_rows(x: Any, copies: int) -> Any:
    return _map_arrays(lambda array: np.concatenate([array] * copies), x)


def _some_rows(x: Any, size: int) -> Any:
    return _map_arrays(lambda array: array[:size], x)


def _map_arrays(function: Callable[[np.ndarray], np.ndarray], x: Any) -> Any:
    """Apply a function to each array in a nest; None, for an optional input, stays."""
    return keras.tree.map_structure(lambda a: None if a is None else function(np.asarray(a)), x)


def batch_size_of(data: FitData, name: str = "batch_size") -> int:
    """Return the rows of a batch of arrays, by Keras's rules."""
    return int(data.fit_args.get(name) or data.fit_args.get("batch_size") or 32)
