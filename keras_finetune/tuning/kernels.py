"""Whether the fused kernels of a fit are compiled, on TensorFlow and a CPU."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import keras

from keras_finetune.device import on_gpu
from keras_finetune.models import TransformerBlock
from keras_finetune.models.fused import is_fusing, plain
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
        before: int, epochs of earlier fits, which tell that there may be more.
    """
    if _pays(model, data, epochs + before):
        yield
    else:
        with plain():
            yield


def _pays(model: keras.Model, data: FitData, epochs: int) -> bool:
    _, is_compiled = getattr(model.train_function, "traced", (None, False))
    if is_compiled or not is_fusing() or on_gpu():
        return True
    blocks = [x for x in model._flatten_layers() if isinstance(x, TransformerBlock)]
    is_known = is_arrays(data.x) or is_data_set(data.x)  # A generator is not read ahead.
    steps = count_steps(data.x, data.fit_args) if is_known else None
    if not blocks or steps is None:
        return True
    of_a_step = tokens_per_step(data.x, data.fit_args) * sum(map(_numbers_of, blocks))
    shapes = count_shapes(data.x, data.fit_args)
    return (
        of_a_step >= _NUMBERS_OF_A_LARGE_STEP
        or of_a_step * steps * epochs >= _NUMBERS_OF_A_SHAPE * shapes
    )


def _numbers_of(block: TransformerBlock) -> float:
    width = math.sqrt(multiplications(block._flatten_layers()) / 12)
    share = 1.0 if block.trainable_variables else _SHARE_OF_FROZEN
    return share * (
        width * (1.0 if block.compute_dtype == "float32" else _SHARE_OF_16_BITS)
        + _NUMBERS_OF_A_TOKEN
    )
