"""The activations of feed-forward layers by name, told apart as the pretrained families need."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_finetune.models.arguments import check_choice


@keras.saving.register_keras_serializable(package="keras_finetune")
def gelu_approximate(x: Any) -> Any:
    """Compute GELU by its approximation with tanh: [paper](https://arxiv.org/abs/1606.08415)."""
    return ops.gelu(x, approximate=True)


# A gated activation multiplies a second projection of the input by the activated first one.
_PLAIN: dict[str, Callable[[Any], Any]] = {
    "gelu": keras.activations.gelu,
    "gelu_approximate": gelu_approximate,
    "relu": keras.activations.relu,
    "silu": keras.activations.silu,
    "tanh": keras.activations.tanh,
}
_GATED: dict[str, Callable[[Any], Any]] = {
    "geglu": keras.activations.gelu,
    "swiglu": keras.activations.silu,
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
