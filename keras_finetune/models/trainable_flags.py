"""What is frozen inside a layer made of layers, kept when the layer is saved.

Keras saves whether the layer itself is trainable, and hands that to its constructor, where the
layers inside it do not exist yet: they would come back trainable, each and all.
"""

from typing import Any

import keras


def get_build_config(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return what `build_from_config` needs; for use as a method.

    Args:
        layer: A layer made of layers.
    """
    config = keras.layers.Layer.get_build_config(layer)
    return {**config, "trainable_flags": [x.trainable for x in _inside(layer)]} if config else {}


def build_from_config(layer: keras.layers.Layer, config: dict[str, Any]) -> None:
    """Build a layer that is loaded, and freeze inside it what was frozen; for use as a method.

    Args:
        layer: A layer made of layers.
        config: From `get_build_config`; older files hold no flags.
    """
    keras.layers.Layer.build_from_config(layer, config)
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


def _inside(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    found: list[keras.layers.Layer] = layer._flatten_layers(include_self=False)
    return found
