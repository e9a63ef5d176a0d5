"""Which layers compute each position of a sequence from itself alone."""

import inspect
from typing import Any

import keras

from keras_finetune.models import activation
from keras_finetune.models.model_graph import ModelGraph, Step
from keras_finetune.models.vocabulary import VocabularyBias

POSITION_WISE = (
    keras.layers.Activation,
    keras.layers.Add,
    keras.layers.Concatenate,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.Embedding,
    keras.layers.Identity,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
    keras.layers.Rescaling,
    keras.layers.ReversibleEmbedding,
    VocabularyBias,
)

# A function of a user may mix positions.
_ACTIVATIONS = tuple(
    function
    for module in (keras.activations, activation)
    for function in vars(module).values()
    if inspect.isfunction(function)
)


def computes_as_known(layer: keras.layers.Layer, known: tuple[type, ...] = POSITION_WISE) -> bool:
    """Tell whether a layer is of a known class, and computes what that says, over the last axis.

    Args:
        layer: Any layer.
        known: The classes.
    """
    function = getattr(layer, "activation", None)
    numbers: tuple[Any, ...] = ()
    if isinstance(layer, keras.layers.Rescaling):  # Of arrays, each position may have its own.
        numbers = (layer.scale, layer.offset)
    return (
        type(layer) in known
        and all(isinstance(number, int | float) for number in numbers)
        and getattr(layer, "axis", -1) in (-1, [-1])
        and (function is None or isinstance(function, str) or function in _ACTIVATIONS)
    )


def head_tensors(graph: ModelGraph) -> list[int]:
    """Find what the output of each position is computed from, of that position alone.

    Args:
        graph: Of a model.

    Returns:
        Numbers of tensors (batch, length, width), each made of the one before, the output last;
        none if that is not (batch, length, ...).

    Example:
        >>> from keras_finetune.models.model_graph import model_graph
        >>> x = keras.Input((None, 4))
        >>> y = keras.layers.LSTM(3, return_sequences=True)(x)
        >>> model = keras.Model(x, keras.layers.Dense(2)(y))
        >>> graph = model_graph(model)
        >>> [graph.symbols[number].shape for number in head_tensors(graph)]
        [(None, None, 3), (None, None, 2)]
    """
    if len(graph.outputs) != 1 or len(graph.symbols[graph.outputs[0]].shape) != 3:
        return []
    found = list(graph.outputs)
    for step in reversed(graph.steps):
        if found[0] not in step.outputs:
            continue
        read = set(step.inputs.values())
        ranks = {len(graph.symbols[number].shape) for number in (*read, *step.outputs)}
        if len(read) != 1 or ranks != {3} or not _is_of_one_position(step):
            break
        found.insert(0, *read)
    return found


def has_constants(step: Step) -> bool:
    """Tell whether a layer was called with arrays beside tensors of the model."""
    flat = keras.tree.flatten((step.node.arguments.args, step.node.arguments.kwargs))
    return any(hasattr(x, "shape") and id(x) not in step.inputs for x in flat)


def _is_of_one_position(step: Step) -> bool:
    layer = step.operation
    if not computes_as_known(layer) or has_constants(step):
        return False
    # What dropout draws depends on the shape; a regularizer of outputs sums them all.
    return not isinstance(layer, keras.layers.Dropout) and layer.activity_regularizer is None
