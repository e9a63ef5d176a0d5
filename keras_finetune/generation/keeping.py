"""Whether each token of a model can be computed once: which layers are known, called how."""

from typing import Any

import keras

from keras_finetune.generation.decoder_graph import (
    argument,
    input_numbers,
    source_and_target,
    target_prefix,
)
from keras_finetune.models import (
    Attention,
    FeedForward,
    PositionEmbedding,
    RecurrentBlock,
    RelativePositionBias,
    TransformerBlock,
)
from keras_finetune.models.model_graph import Step, model_graph
from keras_finetune.models.position_wise import POSITION_WISE, computes_as_known, has_constants

# Those that look back have a method `step`; the others are parts of them.
_LOOKING_BACK = (
    Attention,
    PositionEmbedding,
    RecurrentBlock,
    RelativePositionBias,
    TransformerBlock,
)
_PARTS = (FeedForward, keras.layers.LSTM, keras.layers.LSTMCell)


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
    inputs = [numbers.get(prefix + name) for name in ("token_ids", "padding_mask")]
    if None in inputs:
        return False
    source_steps, target_steps = source_and_target(graph, set(inputs))
    source = {number for number in numbers.values() if number not in inputs}
    source.update(number for step in source_steps for number in step.outputs)
    source_mask = numbers.get("padding_mask") if prefix else None
    biases = {
        step.outputs[0] for step in target_steps if isinstance(step.operation, RelativePositionBias)
    }
    return all(
        _is_known(step.operation)
        and _is_called_as_known(step, inputs[1], source, source_mask, biases)
        for step in target_steps
    )


def _is_known(layer: Any) -> bool:
    if type(layer) not in (*POSITION_WISE, *_LOOKING_BACK):
        return False
    if isinstance(layer, Attention):
        known = layer.cross_attention and not layer.causal and layer.rope_theta is None
    elif isinstance(layer, RecurrentBlock):
        # Its weights are read as they are, so that they must have the dtype of the inputs.
        known = layer.causal and layer.compute_dtype == layer.variable_dtype
    else:
        known = getattr(layer, "causal", True)
    parts = (*POSITION_WISE, *_LOOKING_BACK, *_PARTS)
    return known and all(computes_as_known(x, parts) for x in layer._flatten_layers())


def _is_called_as_known(
    step: Step, mask: int | None, source: set[int], source_mask: int | None, biases: set[int]
) -> bool:
    """Whether a layer reads the target, and an encoder's output only where it attends to it."""
    layer, node = step.operation, step.node
    if isinstance(layer, RelativePositionBias):
        return argument(step, "inputs") == mask
    if has_constants(step) or [len(x.shape) for x in node.outputs] != [3]:
        return False
    if isinstance(layer, POSITION_WISE):
        ranks = {len(x.shape) for x in node.input_tensors}
        of_vectors = ranks == {3} or isinstance(layer, keras.layers.Embedding)
        return of_vectors and source.isdisjoint(step.inputs.values())
    bias = argument(step, "position_bias")
    if bias is not None and (isinstance(layer, Attention) or bias not in biases):
        return False
    if not isinstance(layer, Attention) and argument(step, "padding_mask") not in (None, mask):
        return False
    if not getattr(layer, "cross_attention", False):
        return source.isdisjoint(step.inputs.values())
    name = "padding_mask" if isinstance(layer, Attention) else "encoder_padding_mask"
    found = argument(step, name)
    return (
        argument(step, "inputs") not in source
        and argument(step, "encoder_output") in source
        and found is not None
        and found == source_mask
    )
