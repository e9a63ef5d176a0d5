"""Rotary positions: queries and keys are turned by an angle that grows with their position."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from keras_finetune.models.arguments import check_above_zero, check_choice

_NEEDED = {
    "default": (),
    "linear": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
}


def inverse_frequencies(
    head_dim: int, theta: float = 10000.0, scaling: Mapping[str, Any] | None = None
) -> np.ndarray:
    """Compute how far one step of position turns each pair of a head's dimensions.

    Sources: [RoFormer](https://arxiv.org/abs/2104.09864); `"linear"` scaling is
    [position interpolation](https://arxiv.org/abs/2306.15595); `"llama3"` is Llama 3.1's.

    Args:
        head_dim: The width of a head, even.
        theta: The base of the geometric series of wavelengths.
        scaling: As `rope_scaling` in a Hugging Face config, e.g.
            `{"rope_type": "linear", "factor": 2.0}`.

    Returns:
        A float32 array of `head_dim // 2` angles in radians.

    Raises:
        ValueError: The width is odd, or the scaling is not known or lacks a key.

    Example:
        >>> [round(float(angle), 4) for angle in inverse_frequencies(4)]
        [1.0, 0.01]
    """
    if head_dim % 2:
        raise ValueError(f"Rotary positions need an even head_dim. Received: head_dim={head_dim}.")
    check_above_zero(rope_theta=theta)
    frequencies = 1.0 / theta ** (np.arange(0, head_dim, 2, dtype="float64") / head_dim)
    scaling = dict(scaling or {"rope_type": "default"})
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    check_choice("rope_scaling's rope_type", kind, _NEEDED)
    missing = [key for key in _NEEDED[kind] if key not in scaling]
    if missing:
        raise ValueError(f"rope_scaling of type {kind!r} lacks {missing}. Received: {scaling}.")
    check_above_zero(**{f"rope_scaling's {key}": scaling[key] for key in _NEEDED[kind]})
    if kind == "linear":
        frequencies = frequencies / scaling["factor"]
    elif kind == "llama3":
        frequencies = _llama3(frequencies, scaling)
    return frequencies.astype("float32")


def rotary_angles(positions: Any, frequencies: np.ndarray, dtype: str) -> tuple[Any, Any]:
    """Compute the cosines and sines of positions.

    Args:
        positions: (..., length) int32.
        frequencies: From `inverse_frequencies`.
        dtype: The dtype to return; the angles themselves are always float32.

    Returns:
        Two tensors of shape (..., length, head_dim), the sines of its first half negative.
    """
    angles = ops.cast(positions, "float32")[..., None] * frequencies
    cos, sin = ops.cast(ops.cos(angles), dtype), ops.cast(ops.sin(angles), dtype)
    return ops.concatenate([cos, cos], axis=-1), ops.concatenate([-sin, sin], axis=-1)


def rotate(heads: Any, angles: tuple[Any, Any]) -> Any:
    """Turn queries or keys by the angles of their positions.

    The pairs are dimensions i and i + head_dim // 2 (Hugging Face's layout), not neighbours.

    Args:
        heads: A tensor of shape (batch, num_heads, length, head_dim).
        angles: From `rotary_angles`, each (length, head_dim) or (batch, 1, length, head_dim).

    Returns:
        A tensor of the same shape.
    """
    cos, sin = angles
    first, second = ops.split(heads, 2, axis=-1)
    return heads * cos + ops.concatenate([second, first], axis=-1) * sin


def _llama3(frequencies: np.ndarray, scaling: Mapping[str, Any]) -> np.ndarray:
    """Slow down the long waves, keep the short ones, and blend those between."""
    turns = scaling["original_max_position_embeddings"] * frequencies / (2 * np.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1 - keep) * frequencies / scaling["factor"] + keep * frequencies
