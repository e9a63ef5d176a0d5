"""The activations of feed-forward layers by name, told apart as the pretrained families need."""

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_finetune.models.arguments import check_choice
from keras_finetune.models.fused import fused, is_op_by_op, with_bias
from keras_finetune.models.torch_kernels import is_torch


@keras.saving.register_keras_serializable(package="keras_finetune")
def gelu(x: Any, bias: Any = None) -> Any:
    """Compute GELU exactly, with erf: [paper](https://arxiv.org/abs/1606.08415)."""
    return _activated(_gelu, x, bias)


@keras.saving.register_keras_serializable(package="keras_finetune")
def gelu_approximate(x: Any, bias: Any = None) -> Any:
    """Compute GELU by its approximation with tanh: [paper](https://arxiv.org/abs/1606.08415)."""
    return _activated(_gelu_approximate, x, bias)


@keras.saving.register_keras_serializable(package="keras_finetune")
def silu(x: Any, bias: Any = None) -> Any:
    """Compute x * sigmoid(x): [paper](https://arxiv.org/abs/1702.03118)."""
    return _activated(_silu, x, bias)


def relu(x: Any, bias: Any = None) -> Any:
    """Compute max(x, 0)."""
    return _activated(ops.relu, x, bias)


def tanh(x: Any, bias: Any = None) -> Any:
    """Compute the hyperbolic tangent."""
    return _activated(ops.tanh, x, bias)


def _gelu(y: Any) -> Any:
    return 0.5 * y * (1.0 + ops.erf(y * 0.5**0.5))


def _gelu_approximate(y: Any) -> Any:
    inner = (2.0 / math.pi) ** 0.5 * (y + 0.044715 * y * y * y)
    return 0.5 * y * (1.0 + ops.tanh(inner))


def _silu(y: Any) -> Any:
    if is_op_by_op():
        # The usual form becomes a kernel of oneDNN's that takes thrice as long for one token.
        return 0.5 * y * (1.0 + ops.tanh(0.5 * y))
    return y * ops.sigmoid(y)


def _activated(formula: Callable[[Any], Any], x: Any, bias: Any) -> Any:
    biases = () if bias is None else (bias,)
    return _kernel(formula, len(x.shape), len(biases))(x, *biases)


@functools.cache
def _kernel(formula: Callable[[Any], Any], rank: int, biases: int) -> Callable[..., Any]:
    # The plain expression in bfloat16 takes as long as the matrix products beside it.
    # One kernel for arguments of several ranks or numbers would know neither.
    def compute(x: Any, *bias: Any) -> Any:
        return ops.cast(formula(with_bias(ops.cast(x, "float32"), *bias)), x.dtype)

    if is_torch():
        return lambda x, *bias: _OF_KERAS[formula](sum(bias, x))
    return fused(compute)


# On PyTorch these are one kernel, which computes in float32 inside.
_OF_KERAS: dict[Callable[[Any], Any], Callable[[Any], Any]] = {
    _gelu: functools.partial(ops.gelu, approximate=False),
    _gelu_approximate: functools.partial(ops.gelu, approximate=True),
    _silu: ops.silu,
    ops.relu: ops.relu,
    ops.tanh: ops.tanh,
}


# A gated activation multiplies a second projection of the input by the activated first one.
_PLAIN: dict[str, Callable[..., Any]] = {
    "gelu": gelu,
    "gelu_approximate": gelu_approximate,
    "relu": relu,
    "silu": silu,
    "tanh": tanh,
}
_GATED: dict[str, Callable[..., Any]] = {
    "geglu": gelu,
    "geglu_approximate": gelu_approximate,
    "swiglu": silu,
}


def activation_function(name: str) -> tuple[Callable[..., Any], bool]:
    """Return an activation by name.

    Args:
        name: `"gelu"` (exact, with erf: BERT), `"gelu_approximate"` (with tanh: GPT-2), `"relu"`,
            `"silu"`, `"tanh"`, or gated: `"swiglu"` (Llama), `"geglu"`,
            `"geglu_approximate"` (T5 v1.1).

    Returns:
        The function, of a tensor and optionally of a bias to add first, and whether it is gated.

    Raises:
        ValueError: The name is not known.

    Example:
        >>> activation_function("swiglu")[1]
        True
    """
    check_choice("activation", name, [*_PLAIN, *_GATED])
    return _PLAIN.get(name) or _GATED[name], name in _GATED
