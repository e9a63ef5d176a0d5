"""What the activations of a frozen prefix depend on, as a text that differs where they may."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_finetune.models.model_graph import Step
from keras_finetune.tuning.prefix_cut import PrefixCut
from keras_finetune.tuning.prefix_rows import digest

# Names, which may count how many there were before, and Keras's own bookkeeping.
_OF_EVERY_LAYER = frozenset(vars(keras.layers.Layer()))


def prefix_key(cut: PrefixCut, rows_key: str) -> str:
    """Identify activations by the steps below a cut, their weights, and the rows.

    Args:
        cut: The cut.
        rows_key: Identifies the rows.

    Returns:
        The same text for the same activations, in other processes too.
    """
    found = hashlib.blake2b(digest_size=16)
    steps = [_described(step) for step in cut.prefix]
    described = [keras.backend.backend(), cut.tensors, steps]
    found.update(json.dumps(described, sort_keys=True, default=str).encode())
    for variable in cut.variables():
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        found.update(value.reshape(-1).view(np.uint8).data)
    return f"{found.hexdigest()} {rows_key}"


def why_no_key(cut: PrefixCut) -> str | None:
    """Say why activations cannot be identified; None if they can."""
    for layer in (step.operation for step in cut.prefix):
        try:
            if isinstance(layer, keras.layers.Layer):
                keras.saving.serialize_keras_object(layer)
        except NotImplementedError:
            return f"{layer.name!r} has no get_config, and so does not say what it computes"
    return None


def _described(step: Step) -> list[Any]:
    """What is called, with which tensors and with which other arguments."""
    operation = step.operation
    arguments = step.node.arguments
    called_with = [_plain(x, step) for x in (arguments.args, arguments.kwargs)]
    is_layer = isinstance(operation, keras.layers.Layer)
    # What a layer was told later is not in its config.
    parts = operation._flatten_layers() if is_layer else [operation]
    told = [
        _plain({name: x for name, x in vars(part).items() if name not in _OF_EVERY_LAYER}, step)
        for part in parts
    ]
    kind = keras.saving.serialize_keras_object(operation) if is_layer else type(operation).__name__
    return [kind, told, called_with]


def _plain(x: Any, step: Step) -> Any:
    """Numbers, texts and arrays as they are, tensors by number, and of all else the type."""
    if x is None or isinstance(x, bool | int | float | str):
        return x
    if isinstance(x, Mapping):
        return {str(name): _plain(value, step) for name, value in x.items()}
    if isinstance(x, list | tuple):
        return [_plain(value, step) for value in x]
    if isinstance(x, keras.KerasTensor):
        return f"tensor {step.inputs.get(id(x))}"
    if isinstance(x, np.ndarray | np.generic) or keras.ops.is_tensor(x):
        return digest(keras.ops.convert_to_numpy(x))
    return type(x).__name__
