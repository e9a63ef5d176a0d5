"""The activations of feed-forward layers by name, told apart as the pretrained families need."""

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_finetune.models.arguments import check_choice
from keras_finetune.models.fused import fused


@keras.saving.register_keras_serializable(package="keras_finetune")
def gelu(x: Any) -> Any:
    """Compute GELU exactly, with erf: [paper](https://arxiv.org/abs/1606.08415)."""
    return _gelu()(x)


@functools.cache
def _gelu() -> Callable[[Any], Any]:
    # The plain expression in bfloat16 takes as long as the matrix products beside it.
    def compute(x: Any) -> Any:
        y = ops.cast(x, "float32")
        return ops.cast(0.5 * y * (1.0 + ops.erf(y * 0.5**0.5)), x.dtype)

    return fused(compute)


@keras.saving.register_keras_serializable(package="keras_finetune")
def gelu_approximate(x: Any) -> Any:
    """Compute GELU by its approximation with tanh: [paper](https://arxiv.org/abs/1606.08415)."""
    return _gelu_approximate()(x)


@functools.cache
def _gelu_approximate() -> Callable[[Any], Any]:
    def compute(x: Any) -> Any:
        y = ops.cast(x, "float32")
        inner = (2.0 / math.pi) ** 0.5 * (y + 0.044715 * y * y * y)
        return ops.cast(0.5 * y * (1.0 + ops.tanh(inner)), x.dtype)

    return fused(compute)


@keras.saving.register_keras_serializable(package="keras_finetune")
def silu(x: Any) -> Any:
    """Compute x * sigmoid(x): [paper](https://arxiv.org/abs/1702.03118)."""
    return _silu()(x)


@functools.cache
def _silu() -> Callable[[Any], Any]:
    def compute(x: Any) -> Any:
        y = ops.cast(x, "float32")
        return ops.cast(y * ops.sigmoid(y), x.dtype)

    return fused(compute)


# A gated activation multiplies a second projection of the input by the activated first one.
_PLAIN: dict[str, Callable[[Any], Any]] = {
    "gelu": gelu,
    "gelu_approximate": gelu_approximate,
    "relu": keras.activations.relu,
    "silu": silu,
    "tanh": keras.activations.tanh,
}
_GATED: dict[str, Callable[[Any], Any]] = {
    "geglu": gelu,
    "swiglu": silu,
}


def activation_function(name: str) -> tuple[Callable[[Any], Any], bool]:
    """Return an activation by name.

    Args:
        name: `"gelu"` (exact, with erf: BERT), `"gelu_approximate"` (with tanh: GPT-2), `"relu"`,
            `"silu"`, `"tanh"`, or gated: `"swiglu"` (Llama), `"geglu"`.

    Returns:
        The function, and whether it is gated.

    Raises:
        ValueError: The name is not known.

    Example:
        >>> activation_function("swiglu")[1]
        True
    """
    check_choice("activation", name, [*_PLAIN, *_GATED])
    return _PLAIN.get(name) or _GATED[name], name in _GATED
