"""How many steps TensorFlow runs before Python is asked again."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from keras_finetune.models.fused import is_fusing
from keras_finetune.tuning.data_kinds import (
    FitData,
    count_steps,
    is_tf_dataset,
    tokens_per_step,
)
from keras_finetune.tuning.input_checks import known_shape
from keras_finetune.tuning.prefix_cut import multiplications

# Between two executions Keras spends some 2 ms in Python. Executions of 200 ms make that little,
# and let a progress bar move.
_EXECUTION_SECONDS = 0.2
_MOST_STEPS = 16
_LEAST_EXECUTIONS = 8
_FLOPS_PER_SECOND = {"CPU": 1e11, "GPU": 2e13, "TPU": 2e13}

_BATCH_METHODS = (
    "on_batch_begin",
    "on_batch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_test_batch_begin",
    "on_test_batch_end",
)


def choose_steps_per_execution(
    model: keras.Model,
    x: Any,
    fit_args: Mapping[str, Any],
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> int:
    """Choose Keras's `steps_per_execution`: more than one where steps are short.

    Args:
        model: A compiled model. What its `compile` was given stays.
        x: What goes into `fit`.
        fit_args: Further arguments of `fit`.
        callbacks: The user's own; with one that acts between batches, every step is one execution.

    Returns:
        int, at least 1.
    """
    if model.steps_per_execution != 1 or keras.backend.backend() != "tensorflow":
        return int(model.steps_per_execution)
    given = fit_args.get("steps_per_epoch")
    steps = None if given and not is_tf_dataset(x) else count_steps(x, fit_args)
    if steps is None or model.run_eagerly or any(map(_acts_on_batches, callbacks)):
        return 1
    import tensorflow as tf

    device = tf.config.list_logical_devices()[-1].device_type
    trained = [layer for layer in model._flatten_layers() if layer.trainable_variables]
    flops = 6.0 * multiplications(trained) * tokens_per_step(x, fit_args)
    seconds = flops / _FLOPS_PER_SECOND.get(device, 2e13)
    wanted = math.ceil(_EXECUTION_SECONDS / max(seconds, 1e-9))
    at_once = max(1, min(wanted, _MOST_STEPS, steps // _LEAST_EXECUTIONS))
    # Keras would run past an end that was asked for. In `fit` it validates as many at a time.
    ends = (given or 0, fit_args.get("validation_steps") or 0)
    while any(end % at_once for end in ends):
        at_once -= 1
    return at_once


@contextmanager
def steps_per_execution(model: keras.Model, steps: int, data: FitData) -> Iterator[None]:
    """Let a model's `fit` run so many steps at a time, and only its `fit`.

    `predict` of several steps at a time would join outputs of different widths, and fail.

    Args:
        model: A compiled model.
        steps: How many.
        data: What goes into `fit`. Where other ranks were traced, TensorFlow would go on with
            tensors of unknown rank, on which losses and metrics fail; where other kernels were,
            with those.
    """
    before = model.steps_per_execution
    traced = _ranks(data), is_fusing()
    traced_steps = getattr(model.train_function, "steps_per_execution", before)
    is_other = getattr(model.train_function, "traced", traced) != traced
    if steps != traced_steps or is_other:
        model.train_function = None
    if steps != before or is_other:
        model.test_function = None
    model.steps_per_execution = steps
    model.make_train_function()
    model.train_function.steps_per_execution = steps
    model.train_function.traced = traced
    try:
        yield
    finally:
        model.steps_per_execution = before
        if steps != before:
            model.test_function = None


def _ranks(data: FitData) -> list[int]:
    parts = (data.x, data.y, data.fit_args.get("sample_weight"))
    nest = data.x.element_spec if is_tf_dataset(data.x) else parts
    return [len(known_shape(leaf) or ()) for leaf in keras.tree.flatten(nest)]


def _acts_on_batches(callback: Any) -> bool:
    return any(
        getattr(type(callback), name) is not getattr(keras.callbacks.Callback, name)
        or name in vars(callback)
        for name in _BATCH_METHODS
    )
