"""What is frozen or quantized inside a layer made of layers, kept when the layer is saved.

Keras saves whether the layer itself is trainable, and hands that to its constructor, where the
layers inside it do not exist yet: they would come back trainable, each and all, and not quantized.
"""

from typing import Any

import keras

from keras_finetune.models.quantizing import few_objects_to_collect


def get_build_config(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return what `build_from_config` needs; for use as a method.

    Args:
        layer: A layer made of layers.
    """
    config = keras.layers.Layer.get_build_config(layer)
    if not config:
        return {}
    return {
        **config,
        "trainable_flags": [inside.trainable for inside in _inside(layer)],
        "quantizations": [_quantization(inside) for inside in _inside(layer)],
    }


def build_from_config(layer: keras.layers.Layer, config: dict[str, Any]) -> None:
    """Build a loaded layer, and quantize and freeze inside it what was so; for use as a method.

    Args:
        layer: A layer made of layers.
        config: From `get_build_config`; older files hold no flags and no quantizations.
    """
    keras.layers.Layer.build_from_config(layer, config)
    quantizations = (config or {}).get("quantizations", [])
    for inside, quantization in zip(_inside(layer), quantizations, strict=bool(quantizations)):
        # Made from a policy that quantizes, it is quantized already.
        if quantization is not None and inside.quantization_mode is None:
            how = keras.saving.deserialize_keras_object(quantization["config"])
            with few_objects_to_collect():
                inside.quantize(quantization["mode"], config=how)
    flags = config.get("trainable_flags") if config else None
    if flags is None:
        hand_down_flag(layer)
        return
    # The outer ones come first: setting theirs sets those of all inside.
    for inside, trainable in zip(_inside(layer), flags, strict=True):
        inside.trainable = trainable


def hand_down_flag(layer: keras.layers.Layer) -> None:
    """Freeze the layers inside a layer that was made with `trainable=False`, once they exist."""
    # Not layer.trainable = False: on TensorFlow, an attribute set to what it is stays untouched.
    for inside in [] if layer.trainable else _inside(layer):
        inside.trainable = False


def _quantization(layer: keras.layers.Layer) -> dict[str, Any] | None:
    mode, how = layer.quantization_mode, getattr(layer, "quantization_config", None)
    return mode and {"mode": mode, "config": keras.saving.serialize_keras_object(how)}


def _inside(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    found: list[keras.layers.Layer] = layer._flatten_layers(include_self=False)
    return found
