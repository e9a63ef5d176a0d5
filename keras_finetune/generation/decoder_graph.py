"""What a decoder must know of a model's graph: its target, its blocks, its head."""

import inspect
from collections import Counter
from typing import Any

import keras

from keras_finetune.models import (
    Attention,
    PositionEmbedding,
    RecurrentBlock,
    TransformerBlock,
    VocabularyBias,
)
from keras_finetune.models.model_graph import ModelGraph, Step, model_graph, needed_steps

# Layers that compute each position from itself alone.
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
    keras.layers.ReversibleEmbedding,
    VocabularyBias,
)


def can_keep(model: keras.Model) -> bool:
    """Tell whether each token of a model can be computed once.

    Args:
        model: A functional model.

    Returns:
        `False` if there are layers in it of which it is not known how they use earlier tokens.
    """
    graph = model_graph(model)
    if graph is None or not isinstance(model.input, dict) or len(graph.outputs) != 1:
        return False
    numbers = input_numbers(model, graph)
    prefix = target_prefix(model)
    inputs = {numbers.get(prefix + name) for name in ("token_ids", "padding_mask")}
    if None in inputs:
        return False
    source, target = source_and_target(graph, inputs)
    made = {number for step in source for number in step.outputs}
    for step in target:
        layer = step.operation
        takes_source = bool(made.intersection(step.inputs.values()))
        if isinstance(layer, Attention):
            known = layer.cross_attention
        elif isinstance(layer, TransformerBlock):
            known = layer.causal and layer.cross_attention == takes_source
        elif isinstance(layer, RecurrentBlock):
            # Its weights are read as they are, so that they must have the dtype of the inputs.
            as_stored = layer.compute_dtype == layer.variable_dtype
            known = layer.causal and not takes_source and as_stored
        else:
            known = isinstance(layer, (PositionEmbedding, *POSITION_WISE)) and not takes_source
        if not known:
            return False
    return True


def target_prefix(model: keras.Model) -> str:
    """Return what the names of the target's inputs begin with: `"decoder_"` with an encoder."""
    return "decoder_" if "decoder_token_ids" in model.input else ""


def input_numbers(model: keras.Model, graph: ModelGraph) -> dict[str, int]:
    """Return the number in the graph of each of a model's inputs, by name."""
    # Keras flattens a dict in the order of its sorted keys.
    by_symbol = {id(x): n for x, n in zip(model.inputs, graph.inputs, strict=True)}
    return {name: by_symbol[id(x)] for name, x in model.input.items()}


def source_and_target(graph: ModelGraph, inputs: set[Any]) -> tuple[list[Step], list[Step]]:
    """Steps that do not depend on the target's inputs, and those that do."""
    depends, source, target = set(inputs), [], []
    for step in needed_steps(graph, graph.inputs, graph.outputs):
        if depends.intersection(step.inputs.values()):
            depends.update(step.outputs)
            target.append(step)
        else:
            source.append(step)
    return source, target


def chains(steps: list[Step]) -> list[list[Step]]:
    """Steps one by one, but blocks of which each only reads the one before together."""
    readers = Counter(number for step in steps for number in step.inputs.values())
    found: list[list[Step]] = []
    for step in steps:
        if isinstance(step.operation, TransformerBlock) and found:
            before = found[-1][-1]
            made = before.outputs[0]
            follows = made == argument(step, "inputs") and readers[made] == 1
            if isinstance(before.operation, TransformerBlock) and follows:
                found[-1].append(step)
                continue
        found.append([step])
    return found


def is_head(step: Step) -> bool:
    """Tell whether a step is part of the head, which only a row's last token goes through."""
    name: str = step.operation.name
    return name.startswith("head_") or bool(step.node.arguments.kwargs.get("reverse"))


def argument(step: Step, name: str) -> int:
    """The number of the tensor that a layer was called with; "inputs" is its first argument."""
    arguments = step.node.arguments
    if name == "inputs":
        return step.inputs[id(arguments.args[0])]
    given = inspect.signature(step.operation.call).bind(*arguments.args, **arguments.kwargs)
    return step.inputs[id(given.arguments[name])]
