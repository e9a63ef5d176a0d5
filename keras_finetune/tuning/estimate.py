"""Time, memory and disk of a fit, told before it runs from some of its steps."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import keras
import numpy as np
from rich.markup import escape
from rich.table import Table

from keras_finetune.device import on_gpu
from keras_finetune.tuning.compilation import Compilation
from keras_finetune.tuning.data_kinds import FitData, count_steps, keras_fit_arguments
from keras_finetune.tuning.execution import choose_steps_per_execution, steps_per_execution
from keras_finetune.tuning.frozen_prefix import Prefix, cut_model, make_prefix, prefix_inputs
from keras_finetune.tuning.gradient_checkpointing import maybe_checkpoint_blocks
from keras_finetune.tuning.kernels import kernels_worth_compiling
from keras_finetune.tuning.memory import forget_peak, peak_memory
from keras_finetune.tuning.prefix_cache import PrefixCache
from keras_finetune.tuning.prefix_choice import (
    CacheFrozen,
    count_tokens,
    folder_of,
    frozen_once,
    is_asked,
    plan_cache,
    refuse_if_asked,
)
from keras_finetune.tuning.prefix_cut import PrefixCut, find_cut
from keras_finetune.tuning.prefix_rows import Block
from keras_finetune.tuning.recipe import Recipe
from keras_finetune.tuning.sample import (
    batch_size_of,
    mean_step_of_sample,
    repeated,
    sample_data,
)
from keras_finetune.tuning.stages import Stage

# Blocks of frozen layers' rows that are timed.
_TIMED_BLOCKS = 8


@dataclass(frozen=True)
class StageEstimate:
    """What a stage, or a whole fit, will take.

    Attributes:
        name: The stage's name; "fit" where there are no stages.
        epochs: How many epochs it has.
        seconds: All of its time: start-up, the frozen layers' single run, and the epochs.
        start_seconds: Of these, tracing and compiling.
        cache_seconds: Of these, running frozen layers once.
        samples_per_second: Rows a second in its epochs.
        peak_memory_gb: Most memory that the process holds; on a GPU, of the GPU's.
        cache_gb: Disk for the activations of frozen layers; 0 if they run in every epoch.
    """

    name: str
    epochs: int
    seconds: float
    start_seconds: float
    cache_seconds: float
    samples_per_second: float
    peak_memory_gb: float
    cache_gb: float


@dataclass(frozen=True)
class Estimate:
    """What a fit will take; `rich.print` shows a table.

    Attributes:
        stages: For each stage.
        padding_share: Share of the computed tokens that is padding; None if the data does not say.
    """

    stages: tuple[StageEstimate, ...]
    padding_share: float | None

    @property
    def seconds(self) -> float:
        """Time of all stages."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def peak_memory_gb(self) -> float:
        """Most memory of any stage."""
        return max(stage.peak_memory_gb for stage in self.stages)

    @property
    def cache_gb(self) -> float:
        """Most disk of any stage."""
        return max(stage.cache_gb for stage in self.stages)

    def __rich__(self) -> Table:
        table = Table(title="Estimate")
        for name in ("Stage", "Epochs", "Time", "Rows/s", "Peak memory", "Cache on disk"):
            table.add_column(name, justify="left" if name == "Stage" else "right")
        for x in self.stages:
            table.add_row(
                escape(x.name),
                str(x.epochs),
                _clock(x.seconds),
                f"{x.samples_per_second:,.0f}",
                f"{x.peak_memory_gb:.2f} GB",
                f"{x.cache_gb:.2f} GB" if x.cache_gb else "none",
            )
        if self.padding_share is not None:
            table.caption = f"{self.padding_share:.0%} of the computed tokens are padding"
        return table


def estimate_stages(
    model: keras.Model,
    recipe: Recipe,
    data: FitData,
    stages: Sequence[tuple[Stage | None, int]],
    cache_frozen: CacheFrozen,
) -> Estimate:
    """Time some steps of each stage; the model's weights and flags stay as they were.

    Args:
        model: A built model.
        recipe: How it is to be trained.
        data: What is to go into `fit`.
        stages: Pairs of a stage, or None for what trains now, and its epochs.
        cache_frozen: As for `FineTuner.fit`.

    Returns:
        The estimate.
    """
    plan = getattr(data.x, "plan", None)
    data = replace(data, fit_args={**data.fit_args, "verbose": 0})
    found = []
    for stage, epochs in stages:
        with _put_back(model) as kept_bytes:
            of_stage = recipe
            if stage is not None:
                stage.apply(model)
                if stage.learning_rate is not None:
                    of_stage = replace(recipe, learning_rate=stage.learning_rate)
            cached = cache_frozen if stage is None or find_cut(model) else False
            measured = _measure(model, of_stage, data, epochs, cached)
        memory = measured.peak_memory_gb - kept_bytes / 1e9 * (not on_gpu())
        name = "fit" if stage is None else stage.name
        found.append(replace(measured, name=name, peak_memory_gb=memory))
    return Estimate(tuple(found), None if plan is None else plan(0).padding_share)


def _measure(
    model: keras.Model, recipe: Recipe, data: FitData, epochs: int, cache_frozen: CacheFrozen
) -> StageEstimate:
    steps = count_steps(data.x, data.fit_args)
    if steps is None:
        raise ValueError(
            "The data does not say how many steps an epoch has. Give steps_per_epoch, or a "
            "tf.data.Dataset with a cardinality."
        )
    compilation = Compilation(model)
    compilation.recipe = recipe
    compilation.prepare(steps * epochs)
    asked = is_asked(cache_frozen)
    cut = None if cache_frozen is False else find_cut(model)
    kept = plan_cache(cut, data, PrefixCache(folder_of(cache_frozen)).folder, epochs, asked=asked)
    if isinstance(kept, str):
        refuse_if_asked(cache_frozen, kept)
    at_once = choose_steps_per_execution(model, data.x, data.fit_args)
    sample = sample_data(data, at_once)
    start = cache_seconds = 0.0
    forget_peak()
    cache = PrefixCache()
    if cut is not None and not isinstance(kept, str):
        start, seconds_of_a_token = _time_prefix(cut, sample, cache, epochs)
        cache_seconds = seconds_of_a_token * kept.tokens
    timer = _Timer(at_once)
    caching = not isinstance(kept, str)
    with (
        frozen_once(model, sample, cache, epochs=2, cache_frozen=caching) as cut_data,
        kernels_worth_compiling(model, data, epochs),
        maybe_checkpoint_blocks(model, recipe.gradient_checkpointing),
        steps_per_execution(model, at_once, cut_data),
    ):
        model.fit(epochs=2, callbacks=[timer], **keras_fit_arguments(cut_data, model))
    start += max(timer.epochs[0] - timer.epochs[1], 0.0)
    validation = 0.0
    if data.validation_data is not None:
        validation = timer.seconds_of_a_test_step() * _validation_steps(data)
    step = timer.seconds_of_a_step() * mean_step_of_sample(data, sample, at_once)
    epoch = step * steps + timer.overhead() + validation
    return StageEstimate(
        name="",
        epochs=epochs,
        seconds=start + cache_seconds + epochs * epoch,
        start_seconds=start,
        cache_seconds=cache_seconds,
        samples_per_second=_rows_of_an_epoch(data, steps) / epoch,
        peak_memory_gb=peak_memory() / 1e9,
        cache_gb=0.0 if isinstance(kept, str) else kept.size / 1e9,
    )


class _Timer(keras.callbacks.Callback):
    """The times of epochs and, in the second, of what comes after each first execution."""

    def __init__(self, at_once: int) -> None:
        super().__init__()
        self.epochs: list[float] = []
        self._at_once = at_once
        self._ends: list[float] = []
        self._test_ends: list[float] = []
        self._tests = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began, self._ends, self._test_ends, self._tests = time.perf_counter(), [], [], 0.0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(time.perf_counter() - self._began)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._ends.append(time.perf_counter())

    def on_test_begin(self, logs: Any = None) -> None:
        self._tests -= time.perf_counter()

    def on_test_end(self, logs: Any = None) -> None:
        self._tests += time.perf_counter()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self._test_ends.append(time.perf_counter())

    def seconds_of_a_step(self) -> float:
        return self._between(self._ends)

    def seconds_of_a_test_step(self) -> float:
        return self._between(self._test_ends)

    def overhead(self) -> float:
        """What an epoch takes besides its steps and its validation."""
        steps = len(self._ends) * self._at_once
        return max(self.epochs[-1] - self._tests - self.seconds_of_a_step() * steps, 0.0)

    def _between(self, ends: list[float]) -> float:
        return (ends[-1] - ends[0]) / ((len(ends) - 1) * self._at_once) if len(ends) > 1 else 0.0


def _time_prefix(
    cut: PrefixCut, sample: FitData, cache: PrefixCache, epochs: int
) -> tuple[float, float]:
    """Seconds that the frozen layers take once, whatever the rows, and for each token."""
    # Twice over, so that most widths have whole batches, as they have among all rows.
    once = replace(sample, validation_data=None)
    sampled, twice = (
        plan_cache(cut, data, cache.folder, epochs, asked=True)
        for data in (once, repeated(once, 2))
    )
    if isinstance(sampled, str) or isinstance(twice, str):
        return 0.0, 0.0
    started = time.perf_counter()
    with cut_model(cut.graph.model, cut):
        cache.dataset(cut, sampled.rows, "train", progress=False)
    whole = time.perf_counter() - started
    some = islice(twice.rows.blocks(), 0, None, -(-twice.rows.num_blocks // _TIMED_BLOCKS))
    of_a_token = _seconds_of_a_token(make_prefix(cut), cut, list(some))
    return max(whole - of_a_token * sampled.tokens, 0.0), of_a_token


def _seconds_of_a_token(prefix: Prefix, cut: PrefixCut, blocks: Sequence[Block]) -> float:
    inputs = [prefix_inputs(cut, block.x) for block in blocks]
    for each in {tuple(x[name].shape for name in sorted(x)): x for x in inputs}.values():
        prefix.run(each)  # Traces and compiles.
    started = time.perf_counter()
    for each in inputs:
        prefix.run(each)
    seconds = time.perf_counter() - started
    return seconds / sum(count_tokens(block.x, block.lengths) for block in blocks)


@contextmanager
def _put_back(model: keras.Model) -> Iterator[int]:
    """Put back weights, seeds and flags; yield how many bytes are kept for that."""
    kept = [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.variables]
    variables = list(model.variables)
    flags = [(layer, layer.trainable) for layer in model._flatten_layers()]
    order = np.random.get_state()  # Rows of arrays are shuffled by it.
    drawn = None
    if keras.backend.backend() == "torch":
        import torch

        drawn = torch.get_rng_state()  # Dropout draws from it there, not from the model's seeds.
    try:
        yield sum(array.nbytes for array in kept)
    finally:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)
        # The outer ones first: setting theirs sets those of all inside.
        for layer, trainable in flags:
            layer.trainable = trainable
        np.random.set_state(order)
        if drawn is not None:
            torch.set_rng_state(drawn)


def _validation_steps(data: FitData) -> int:
    given = data.validation_data
    if isinstance(given, tuple):
        args = {"batch_size": batch_size_of(data, "validation_batch_size")}
        return count_steps(given[0], args) or 0
    return count_steps(given, {}) or 0


def _rows_of_an_epoch(data: FitData, steps: int) -> int:
    plan = getattr(data.x, "plan", None)
    return int(plan(0).sizes.sum()) if plan is not None else steps * batch_size_of(data)


def _clock(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"
