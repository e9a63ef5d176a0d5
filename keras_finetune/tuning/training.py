"""The run of Keras's own `fit`: guarded, recorded and measured."""

from collections.abc import Mapping, Sequence

import keras

from keras_finetune.tuning.data_kinds import FitData, keras_fit_arguments
from keras_finetune.tuning.empty_guard import EmptyDataGuard
from keras_finetune.tuning.execution import choose_steps_per_execution, steps_per_execution
from keras_finetune.tuning.gradient_checkpointing import maybe_checkpoint_blocks
from keras_finetune.tuning.history import EpochCount, EpochRecorder
from keras_finetune.tuning.kept_values import values_kept
from keras_finetune.tuning.kernels import kernels_worth_compiling
from keras_finetune.tuning.nan_guard import NaNLossGuard
from keras_finetune.tuning.report import FitMeter, FitReport, counted_traces


def train(
    model: keras.Model,
    data: FitData,
    *,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback],
    class_weight: Mapping[int, float] | None,
    gradient_checkpointing: bool,
    history: dict[str, list[float]],
    started: float,
    count: EpochCount | None = None,
) -> tuple[keras.callbacks.History, FitReport]:
    """Train a compiled model.

    Args:
        model: The model.
        data: What goes into its `fit`, checked.
        epochs: As for `keras.Model.fit`.
        callbacks: Any.
        class_weight: From class to weight.
        gradient_checkpointing: Whether blocks keep only their inputs for the gradients.
        history: Metrics of every epoch so far, which is added to; after Ctrl-C, too.
        started: When all began, by `time.perf_counter`.
        count: How many epochs went before, which is added to.

    Returns:
        Keras's history of this run, and what was measured.
    """
    initial_epoch = data.fit_args.get("initial_epoch", 0)
    count = count or EpochCount()
    recorder = EpochRecorder(history, data.x, count=count, initial_epoch=initial_epoch)
    # Where a backup put an earlier fit; Keras would begin this one there, too.
    model._initial_epoch = None
    at_once = choose_steps_per_execution(model, data.x, data.fit_args, callbacks)
    with (
        kernels_worth_compiling(model, data, epochs - initial_epoch, count.passed),
        maybe_checkpoint_blocks(model, gradient_checkpointing),
        steps_per_execution(model, at_once, data),
        counted_traces(model) as traces,
        values_kept(model),
    ):
        meter = FitMeter(started, data.x, traces)
        try:
            found = model.fit(
                epochs=epochs,
                callbacks=[NaNLossGuard(data.x), EmptyDataGuard(), recorder, meter, *callbacks],
                class_weight=class_weight,
                **keras_fit_arguments(data, model),
            )
        except KeyboardInterrupt:
            recorder.record_unfinished()
            raise
        return found, meter.report()
