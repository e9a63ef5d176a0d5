"""What lies between the matrix products of a transformer, computed in one pass.

TensorFlow runs an expression like GELU as a chain of kernels, each of which reads and writes the
whole tensor, forwards and again backwards; on a CPU this takes longer than the matrix products.
Here such an expression is one kernel that XLA compiles, and its gradient another, which computes
what it needs from the inputs again and keeps nothing in between. The matrix products stay outside,
since XLA's are slower on a CPU. JAX compiles whole steps in any case, and PyTorch has kernels of
its own; see `torch_kernels.py`.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
from keras import ops

from keras_finetune.models import torch_kernels
from keras_finetune.models.torch_kernels import is_torch
from keras_finetune.models.traced_once import traced_once

_is_without_xla = ContextVar("is_without_xla", default=False)


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of tensors run as one compiled kernel, and its gradient as another.

    Args:
        function: From tensors to one tensor, elementwise or along the last axis; pure. Gradients
            go to its floating-point arguments.

    Returns:
        A function of the same arguments; the same function where nothing is gained.

    Example:
        >>> double = fused(lambda x: x + x)
        >>> float(double(keras.ops.ones(())))
        2.0
    """
    if not has_compiler():
        return function
    import tensorflow as tf

    forward = tf.function(function, jit_compile=True, reduce_retracing=True, autograph=False)

    @tf.function(jit_compile=True, reduce_retracing=True, autograph=False)
    def backward(arguments: Any, upstream: Any) -> Any:
        watched = [x for x in arguments if x.dtype.is_floating]
        with tf.GradientTape() as tape:
            tape.watch(watched)
            result = function(*arguments)
        return tape.gradient(result, watched, output_gradients=upstream)

    @traced_once
    @tf.custom_gradient
    def call(*arguments: Any) -> Any:
        def gradient(upstream: Any) -> list[Any]:
            found = iter(backward(arguments, upstream))
            return [next(found) if x.dtype.is_floating else None for x in arguments]

        return forward(*arguments), gradient

    def checked(*arguments: Any) -> Any:
        if not is_fusing() or any(keras.utils.is_keras_tensor(x) for x in arguments):
            return function(*arguments)
        return call(*(tf.convert_to_tensor(x) for x in arguments))

    return checked


def is_fusing() -> bool:
    """Tell whether kernels are fused: where there is a compiler, outside of `without_xla`."""
    return not _is_without_xla.get() and has_compiler()


def is_op_by_op() -> bool:
    """Tell whether TensorFlow runs each operation by itself, as within `without_xla`."""
    return keras.backend.backend() == "tensorflow" and not is_fusing()


@contextmanager
def without_xla() -> Iterator[None]:
    """Let TensorFlow trace models without the kernels of this library that XLA compiles.

    Compiling takes seconds and some 80 MB of memory, and converters to other formats know no such
    kernels.

    Example:
        >>> with without_xla():
        ...     is_fusing()
        False
    """
    token = _is_without_xla.set(True)
    try:
        yield
    finally:
        _is_without_xla.reset(token)


@functools.cache
def has_compiler() -> bool:
    """Tell whether this is TensorFlow, with XLA in it."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    try:
        with tf.init_scope():
            tf.function(lambda x: x + x, jit_compile=True, autograph=False)(tf.ones(()))
    except (tf.errors.OpError, ValueError):
        return False
    return True


def product_and_bias(dense: Any, x: Any) -> tuple[Any, Any]:
    """Multiply by a dense layer's kernel, and leave its bias to the kernel that comes next.

    Args:
        dense: A built layer.
        x: (batch, length, width).

    Returns:
        (batch, length, units), and the bias that is still to be added; None if it is in it: where
        nothing is gained, or the layer is more than a product.
    """
    if not (is_fusing() and is_product(dense) and dense.use_bias):
        return dense(x), None
    # Flat: TensorFlow would multiply row by row of the batch.
    product = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), dense.kernel)
    return ops.reshape(product, (*ops.shape(x)[:-1], dense.units)), dense.bias


def is_product(dense: Any) -> bool:
    """Tell whether a layer does no more than multiply by its kernel, and add its bias if any."""
    return (
        type(dense) is keras.layers.Dense
        and dense.activation is keras.activations.linear
        and dense.quantization_mode is None
    )


def with_bias(x: Any, bias: Any = None) -> Any:
    """Add a bias, if there is one; for use in kernels.

    Args:
        x: (batch, ..., width) float32.
        bias: (width,) or None.
    """
    return x if bias is None else x + _for_each_row(ops.cast(bias, "float32"), x)


def add_and_norm(
    residual: Any, x: Any, dropout: keras.layers.Dropout, norm: Any, training: bool | None
) -> Any:
    """Compute `norm(residual + dropout(x))`.

    Args:
        residual: (batch, length, width).
        x: The same shape.
        dropout: The dropout layer, whose rate and seeds are used.
        norm: A layer from `make_norm`; None: do not normalize.
        training: Whether dropout is active.

    Returns:
        A tensor of the same shape.
    """
    if not is_fusing():
        summed = residual + drop(x, dropout, training)
        return summed if norm is None else normalize(norm, summed)
    rate, seed = rate_and_seed(dropout, training)
    if norm is None and not rate:
        # One kernel as it is, and its gradient none.
        return ops.cast(residual, x.dtype) + x
    kind, epsilon, weights = _norm_settings(norm)
    return _add_and_norm(rate, kind, epsilon)(residual, x, seed, *weights)


def drop(x: Any, dropout: keras.layers.Dropout, training: bool | None) -> Any:
    """Run a dropout layer, where it is no part of a kernel."""
    if is_torch():
        return torch_kernels.dropout(x, dropout, training)
    return dropout(x, training=training)


def normalize(norm: Any, x: Any) -> Any:
    """Compute `norm(x)`.

    Args:
        norm: A layer from `make_norm`.
        x: (batch, length, width).

    Returns:
        A tensor of the same shape.
    """
    if is_torch() and ops.is_tensor(x):
        return torch_kernels.normalize(norm, x)
    if not is_fusing():
        return norm(x)
    kind, epsilon, weights = _norm_settings(norm)
    return _norm(kind, epsilon, len(x.shape))(x, *weights)


def rate_and_seed(dropout: keras.layers.Dropout, training: bool | None) -> tuple[float, Any]:
    """Give a dropout layer's rate, 0 when it is not active, and a seed from it, (2,) uint32."""
    if not training or not dropout.rate:
        return 0.0, ops.zeros((2,), "uint32")
    return float(dropout.rate), dropout.seed_generator.next()


def _norm_settings(norm: Any) -> tuple[str | None, float, tuple[Any, ...]]:
    if norm is None:
        return None, 0.0, ()
    if isinstance(norm, keras.layers.RMSNormalization):
        return "rms", norm.epsilon, (norm.scale,)
    return "layer", norm.epsilon, (norm.gamma, norm.beta)


@functools.cache
def _add_and_norm(rate: float, kind: str | None, epsilon: float) -> Callable[..., Any]:
    def compute(residual: Any, x: Any, seed: Any, *weights: Any) -> Any:
        summed = ops.cast(residual, "float32") + dropped(ops.cast(x, "float32"), rate, seed)
        return ops.cast(_normalized(summed, kind, epsilon, weights), x.dtype)

    return fused(compute)


@functools.cache
def _norm(kind: str | None, epsilon: float, rank: int) -> Callable[..., Any]:
    # The rank: one function for several would know none.
    def compute(x: Any, *weights: Any) -> Any:
        return ops.cast(_normalized(ops.cast(x, "float32"), kind, epsilon, weights), x.dtype)

    return fused(compute)


def _normalized(x: Any, kind: str | None, epsilon: float, weights: Any) -> Any:
    if kind is None:
        return x
    weights = [_for_each_row(ops.cast(weight, "float32"), x) for weight in weights]
    width = ops.cast(ops.shape(x)[-1], "float32")
    if kind == "rms":
        mean_square = sum_of_rows(ops.square(x)) / width
        return x * ops.rsqrt(mean_square + epsilon) * weights[0]
    centered = x - sum_of_rows(x) / width
    variance = sum_of_rows(ops.square(centered)) / width
    return centered * ops.rsqrt(variance + epsilon) * weights[0] + weights[1]


def sum_of_rows(x: Any) -> Any:
    """Sum along the last axis, kept. A product is several times faster than XLA's sum on a CPU."""
    if keras.backend.backend() != "tensorflow":
        return ops.sum(x, axis=-1, keepdims=True)
    shape = ops.shape(x)
    sums = ops.matmul(ops.reshape(x, (-1, shape[-1])), ops.ones((shape[-1], 1)))
    return ops.reshape(sums, (*shape[:-1], 1))


def _for_each_row(weight: Any, x: Any) -> Any:
    """Repeat a vector for each row of a batch; its gradient then is summed in two passes.

    XLA sums over a whole batch and its positions one by one, on one processor.
    """
    rows = ops.matmul(ops.ones((ops.shape(x)[0], 1)), weight[None, :])
    return ops.reshape(rows, (-1, *(1 for _ in x.shape[1:-1]), ops.shape(weight)[0]))


def dropped(x: Any, rate: float, seed: Any) -> Any:
    """Dropout whose mask is a hash of seed and position: made where needed, never stored.

    The hash is the 32-bit finalizer of Chris Wellons's search ("hash-prospector"), twice.
    """
    if not rate:
        return x
    position = ops.cast(ops.reshape(ops.arange(ops.size(x)), ops.shape(x)), "uint32")
    seed = ops.cast(seed, "uint32")
    number = _mixed(ops.bitwise_xor(_mixed(ops.bitwise_xor(position, seed[0])), seed[1]))
    least = ops.cast(round(rate * 2**32), "uint32")
    return ops.where(number >= least, x / (1.0 - rate), 0.0)


def _mixed(x: Any) -> Any:
    for shift, factor in ((16, 0x21F0AAAD), (15, 0xD35A2D97)):
        shifted = ops.right_shift(x, ops.cast(shift, "uint32"))
        x = ops.bitwise_xor(x, shifted) * ops.cast(factor, "uint32")
    return ops.bitwise_xor(x, ops.right_shift(x, ops.cast(15, "uint32")))
