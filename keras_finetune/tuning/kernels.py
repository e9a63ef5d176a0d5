"""Whether fused kernels are compiled for a fit or predictions, on TensorFlow and a CPU."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import keras

from keras_finetune.data.plan import Plan
from keras_finetune.device import on_gpu
from keras_finetune.models import TransformerBlock
from keras_finetune.models.fused import is_fusing, without_xla
from keras_finetune.tuning.data_kinds import (
    FitData,
    count_shapes,
    count_steps,
    is_arrays,
    is_data_set,
    tokens_per_step,
)
from keras_finetune.tuning.prefix_cut import multiplications

# Measured on two processors: for each shape of batches, compiling takes a second and more. It saves
# some 30 ns for each number that a block gives of a token, half as much again where numbers have 16
# bits; and for each token as much as 150 numbers take, in operations that need not start.
_NUMBERS_OF_A_SHAPE = 4e7
_NUMBERS_OF_A_PREDICTED_SHAPE = 2e7  # Forwards only: a third of the time, and the compiling.
# They keep less for the gradients: of so large a step, some hundred megabytes.
_NUMBERS_OF_A_LARGE_STEP = 5e6
_NUMBERS_OF_A_TOKEN = 150
_SHARE_OF_16_BITS = 1.5
_SHARE_OF_FROZEN = 1 / 3  # They run forwards only.


@contextmanager
def kernels_worth_compiling(
    model: keras.Model, data: FitData, epochs: int, before: int = 0
) -> Iterator[None]:
    """Fuse nothing in a fit of small steps that is over before compiling would have paid.

    Once they were compiled for a model, they stay, until `compile` has it traced anew.

    Args:
        model: A built model.
        data: What goes into its `fit`.
        epochs: int, how many epochs that fit has.
        before: int, epochs of earlier fits: where as many would have paid, there may be more.
    """
    if _pays(model, data, epochs, before):
        yield
    else:
        with without_xla():
            yield


@contextmanager
def predictions_worth_compiling(model: keras.Model, plan: Plan | None) -> Iterator[None]:
    """Fuse nothing in predictions of few rows, such as single texts, each of another length.

    The model keeps both what was traced for few rows and what was traced for many.

    Args:
        model: A built model, whose `predict` or `predict_on_batch` runs within.
        plan: The batches; None if they are not known.
    """
    if plan is None or _predictions_pay(model, plan):
        yield
        return
    model.make_predict_function()
    compiled = model.predict_function
    # Kept with the other, so that both go when Keras has them traced anew.
    model.predict_function = getattr(compiled, "without_xla", None)
    try:
        with without_xla():
            yield
    finally:
        if model.predict_function is not None:  # Else a callback's `compile` took it away.
            compiled.without_xla = model.predict_function
            model.predict_function = compiled


def _predictions_pay(model: keras.Model, plan: Plan) -> bool:
    if not is_fusing() or on_gpu():
        return True
    numbers = plan.num_tokens * sum(map(_numbers_of_a_token, _blocks(model)))
    return numbers == 0 or numbers >= _NUMBERS_OF_A_PREDICTED_SHAPE * plan.num_shapes


def _pays(model: keras.Model, data: FitData, epochs: int, before: int) -> bool:
    _, is_compiled = getattr(model.train_function, "traced", (None, False))
    if is_compiled or not is_fusing() or on_gpu():
        return True
    blocks = _blocks(model)
    is_known = is_arrays(data.x) or is_data_set(data.x)  # A generator is not read ahead.
    steps = count_steps(data.x, data.fit_args) if is_known else None
    if not blocks or steps is None:
        return True
    of_a_token = sum(map(_trained_numbers_of_a_token, blocks))
    of_a_step = tokens_per_step(data.x, data.fit_args) * of_a_token
    # What was traced is traced anew, which takes about as long as a shape.
    shapes = count_shapes(data.x, data.fit_args) + bool(before)
    return (
        of_a_step >= _NUMBERS_OF_A_LARGE_STEP
        or of_a_step * steps * max(epochs, before) >= _NUMBERS_OF_A_SHAPE * shapes
    )


def _blocks(model: keras.Model) -> list[TransformerBlock]:
    return [x for x in model._flatten_layers() if isinstance(x, TransformerBlock)]


def _trained_numbers_of_a_token(block: TransformerBlock) -> float:
    share = 1.0 if block.trainable_variables else _SHARE_OF_FROZEN
    return share * _numbers_of_a_token(block)


def _numbers_of_a_token(block: TransformerBlock) -> float:
    width = math.sqrt(multiplications(block._flatten_layers()) / 12)
    share = 1.0 if block.compute_dtype == "float32" else _SHARE_OF_16_BITS
    return share * width + _NUMBERS_OF_A_TOKEN
