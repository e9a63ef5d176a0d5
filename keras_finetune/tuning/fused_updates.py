"""Optimizer updates in few passes over memory, on TensorFlow, and on PyTorch and a CPU."""

import functools
from collections.abc import Sequence
from typing import Any

import keras

from keras_finetune.device import on_gpu
from keras_finetune.tuning import updates_on_tensorflow, updates_on_torch


def fuse_updates(optimizer: keras.optimizers.Optimizer) -> None:
    """Let a Keras optimizer do the same updates in fewer passes over memory.

    Keras computes Adam and clipping as chains of operations, each of which reads and writes tensors
    as large as the model. Here Adam is the one kernel that the backend has for it, weight decay one
    product, and on TensorFlow the gradient of an embedding stays as sparse as it came until that
    kernel. A token that occurs twice in a batch counts with the sum of its gradients, as on JAX
    and PyTorch, where Keras on TensorFlow squares each for itself. The optimizer's class, settings
    and state stay what they are. JAX, PyTorch on a GPU and strategies that distribute are left
    alone.

    Args:
        optimizer: Any Keras optimizer; changed in place.
    """
    if keras.backend.backend() == "tensorflow":
        _fuse_on_tensorflow(optimizer)
    elif keras.backend.backend() == "torch" and not on_gpu():
        _fuse(optimizer, updates_on_torch)


def _fuse_on_tensorflow(optimizer: keras.optimizers.Optimizer) -> None:
    import tensorflow as tf

    if tf.distribute.has_strategy():
        return
    # There is no other replica to add, and TensorFlow keeps each graph that adds them for ever.
    optimizer._all_reduce_sum_gradients = lambda gradients: gradients
    if not _fuse(optimizer, updates_on_tensorflow):
        return

    def apply_weight_decay(variables: Sequence[Any]) -> None:
        if optimizer.weight_decay:
            decayed = [x for x in variables if optimizer._use_weight_decay(x)]
            updates_on_tensorflow.decay(optimizer, decayed)

    if type(optimizer)._apply_weight_decay is keras.optimizers.Optimizer._apply_weight_decay:
        optimizer._apply_weight_decay = apply_weight_decay


def _fuse(optimizer: keras.optimizers.Optimizer, updates: Any) -> bool:
    """Take clipping and Adam from a module; tells whether this is Adam."""
    if optimizer.global_clipnorm and not optimizer.clipnorm:
        most = optimizer.global_clipnorm
        optimizer._clip_gradients = lambda gradients: updates.clipped(gradients, most)
    if type(optimizer) not in _adams() or optimizer.amsgrad:
        return False

    def update_step(gradients: Sequence[Any], variables: Sequence[Any], rate: Any) -> None:
        updates.adam_step(optimizer, gradients, variables, rate)

    # Keras's own would call it for each variable by way of the strategies left alone above.
    optimizer._backend_update_step = update_step
    return True


@functools.cache
def _adams() -> list[type]:
    # On PyTorch these are classes below the ones that are called.
    return [type(keras.optimizers.Adam()), type(keras.optimizers.AdamW())]
