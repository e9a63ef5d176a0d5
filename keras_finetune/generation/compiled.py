"""A function of tensors that a model's layers compute, compiled where the backend compiles."""

from collections.abc import Callable
from typing import Any

import keras


def compiled(model: keras.Model, function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that calls a model's layers, without gradients.

    On TensorFlow it is traced once for all sizes of batch and length; on JAX compiled once for each
    shape; on PyTorch it runs as it is.

    Args:
        model: Whose weights the function uses; changes to them count.
        function: From nested dicts of tensors to nested tensors, pure. On TensorFlow, of floating
            tensors the axes 0 and, with four axes, 2 may vary; of others all.

    Returns:
        A function of the same arguments, which may be NumPy arrays.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _traced(function)
    if backend == "jax":
        return _jitted(model, function)
    return _without_gradients(function)


def _traced(function: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    def spec(x: Any) -> Any:
        varying = range(len(x.shape))
        if x.dtype.is_floating:
            varying = (0, 2) if len(x.shape) == 4 else (0,)
        shape = [None if axis in varying else size for axis, size in enumerate(x.shape)]
        return tf.TensorSpec(shape, x.dtype)

    traced: dict[int, Any] = {}

    def call(*args: Any) -> Any:
        args = tf.nest.map_structure(tf.convert_to_tensor, args)
        if 0 not in traced:
            signature = tf.nest.map_structure(spec, args)
            traced[0] = tf.function(function, input_signature=signature, autograph=False)
        return traced[0](*args)

    return call


def _jitted(model: keras.Model, function: Callable[..., Any]) -> Callable[..., Any]:
    import jax

    @jax.jit
    def with_weights(weights: list[Any], args: tuple[Any, ...]) -> Any:
        with keras.StatelessScope(zip(model.variables, weights, strict=True)):
            return function(*args)

    return lambda *args: with_weights([v.value for v in model.variables], args)


def _without_gradients(function: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    def call(*args: Any) -> Any:
        with torch.no_grad():
            return function(*keras.tree.map_structure(keras.ops.convert_to_tensor, args))

    return call
