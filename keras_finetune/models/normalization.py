"""The normalizations of transformers: layer norm and root-mean-square norm."""

from typing import Any

import keras

from keras_finetune.models.arguments import check_above_zero, check_choice


def make_norm(kind: str, epsilon: float, *, name: str, dtype: Any = None) -> keras.layers.Layer:
    """Make a normalization layer over the last axis.

    Args:
        kind: `"layer"` (mean and variance, with bias: BERT, GPT-2) or `"rms"` (root mean square,
            no bias: Llama).
        epsilon: Added to the variance. Families differ (1e-12 in BERT, 1e-5 in GPT-2).
        name: The layer's name.
        dtype: Its dtype policy.

    Returns:
        A Keras layer.

    Raises:
        ValueError: The kind is not known, or epsilon is not above 0.

    Example:
        >>> make_norm("rms", 1e-6, name="norm").name
        'norm'
    """
    check_choice("norm", kind, ["layer", "rms"])
    check_above_zero(norm_epsilon=epsilon)
    if kind == "rms":
        return keras.layers.RMSNormalization(epsilon=epsilon, name=name, dtype=dtype)
    return keras.layers.LayerNormalization(epsilon=epsilon, name=name, dtype=dtype)
