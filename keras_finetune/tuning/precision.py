"""In which floating-point type a model computes."""

import functools
from pathlib import Path
from typing import Any

import keras

from keras_finetune.suggest import did_you_mean

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")


def set_precision(model: keras.Model, precision: str) -> str:
    """Let a model compute in another type; its weights and its outputs stay float32.

    Args:
        model: A built Keras model with float32 weights; changed in place.
        precision: `"mixed_bfloat16"`, `"mixed_float16"`, `"float32"`, or `"auto"`:
            `"mixed_bfloat16"` where the machine multiplies matrices of bfloat16, else `"float32"`.

    Returns:
        The precision that was set.

    Raises:
        ValueError: There is no such precision.

    Example:
        >>> model = keras.Sequential(
        ...     [keras.Input((4,)), keras.layers.Dense(3, name="low"), keras.layers.Dense(2)])
        >>> set_precision(model, "mixed_bfloat16")
        'mixed_bfloat16'
        >>> [layer.compute_dtype for layer in model.layers]
        ['bfloat16', 'float32']
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"precision={precision!r}: there are {', '.join(PRECISIONS)}."
            f"{did_you_mean(str(precision), PRECISIONS)}"
        )
    if precision == "auto":
        precision = "mixed_bfloat16" if has_bfloat16() else "float32"
    last = {id(layer) for output in _output_layers(model) for layer in output._flatten_layers()}
    for layer in model._flatten_layers():
        chosen = "float32" if id(layer) in last else precision
        # Weights that are quantized, or smaller as they are, stay so.
        if layer.variable_dtype == "float32" and layer.dtype_policy.quantization_mode is None:
            layer.dtype_policy = chosen
    return precision


@functools.cache
def has_bfloat16() -> bool:
    """Tell whether the processor or its accelerator multiplies matrices of bfloat16."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
        details = [tf.config.experimental.get_device_details(device) for device in devices]
        if details:
            return all(d.get("compute_capability", (0, 0)) >= (8, 0) for d in details)
        if tf.config.list_physical_devices("TPU"):
            return True
    elif keras.backend.backend() == "jax":
        import jax

        if jax.default_backend() != "cpu":
            return True
    elif keras.backend.backend() == "torch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.is_bf16_supported()
    described = Path("/proc/cpuinfo")
    return described.exists() and "avx512_bf16" in described.read_text("utf-8", "replace")


def _output_layers(model: keras.Model) -> list[Any]:
    outputs = getattr(model, "outputs", None) or ()
    layers = [getattr(x, "_keras_history", (None,))[0] for x in outputs]
    found = [layer for layer in layers if isinstance(layer, keras.layers.Layer)]
    # Of a nested model, only what makes its outputs.
    return [
        inner
        for layer in found
        for inner in (_output_layers(layer) if isinstance(layer, keras.Model) else [layer])
    ]
