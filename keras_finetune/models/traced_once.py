"""A gradient of our own on TensorFlow, without the graph that asks for it staying in memory."""

import functools
from collections.abc import Callable
from typing import Any


def traced_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Trace a function of TensorFlow once for each shape, and not in each graph that calls it.

    For TensorFlow never forgets the gradient of a `tf.custom_gradient` in a graph, nor the graph,
    nor the weights that the graph reads: each model that was trained would stay in memory.

    Args:
        function: From tensors to tensors, a `tf.custom_gradient`.

    Returns:
        A function of the same tensors.
    """
    import tensorflow as tf

    @functools.cache
    def traced(*kinds: Any) -> Any:
        specs = [tf.TensorSpec(shape, dtype) for shape, dtype in kinds]
        return tf.function(function, input_signature=specs, autograph=False).get_concrete_function()

    def call(*arguments: Any) -> Any:
        if tf.executing_eagerly():
            return function(*arguments)
        return traced(*((x.shape, x.dtype) for x in arguments))(*arguments)

    return call
