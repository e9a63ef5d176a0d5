"""Time, memory and disk of a fit, told before it runs from some of its steps."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import keras
import numpy as np
from rich.markup import escape
from rich.table import Table

from keras_finetune.device import on_gpu
from keras_finetune.tuning.compilation import Compilation
from keras_finetune.tuning.data_kinds import FitData, count_steps, keras_fit_arguments
from keras_finetune.tuning.execution import choose_steps_per_execution, steps_per_execution
from keras_finetune.tuning.gradient_checkpointing import maybe_checkpoint_blocks
from keras_finetune.tuning.kernels import kernels_worth_compiling
from keras_finetune.tuning.memory import forget_peak, peak_memory
from keras_finetune.tuning.prefix_cache import PrefixCache
from keras_finetune.tuning.prefix_choice import (
    CacheFrozen,
    folder_of,
    frozen_once,
    is_asked,
    plan_cache,
    refuse_if_asked,
)
from keras_finetune.tuning.prefix_cut import find_cut
from keras_finetune.tuning.recipe import Recipe
from keras_finetune.tuning.sample import (
    batch_size_of,
    mean_step_of_sample,
    sample_data,
)
from keras_finetune.tuning.stages import Stage
from keras_finetune.tuning.timing import StepTimer, time_prefix


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
        start, seconds_of_a_token = time_prefix(cut, sample, cache, epochs)
        cache_seconds = seconds_of_a_token * kept.tokens
    timer = StepTimer(at_once)
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
