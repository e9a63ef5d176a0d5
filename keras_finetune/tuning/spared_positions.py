"""Positions that a head leaves out, such as all but `[CLS]`: the topmost block spares them."""

from typing import Any

import keras
from keras import ops

from keras_finetune.models import GatherPositions, MaskedPooling, TransformerBlock
from keras_finetune.models.flash_attention import has_flash_attention
from keras_finetune.models.model_graph import ModelGraph, Step, functional_of, model_graph, run_step
from keras_finetune.models.position_wise import computes_as_known

_NORMS = (keras.layers.LayerNormalization, keras.layers.RMSNormalization)
_KEPT = "_sparing_graph"


def sparing_graph(model: keras.Model) -> ModelGraph | None:
    """List the steps of a model, so that its topmost transformer block computes only what is used.

    Where a head pools one token or gathers some, other positions are needed for the block's keys
    and values alone; its queries, feed-forward layer and normalizations run at those positions,
    which is up to five sixths of a block less. Results are the same but for rounding, and for
    what dropout draws.

    Args:
        model: Any Keras model. It stays as it is.

    Returns:
        A graph that computes what the model does, the model's own where nothing is spared; None for
        a model that has none.

    Example:
        >>> from keras_finetune.models import text_classifier, transformer_encoder
        >>> backbone = transformer_encoder(100, num_layers=1, num_heads=2, hidden_dim=16)
        >>> graph = sparing_graph(text_classifier(backbone, 2, pooling="first"))
        >>> (block,) = [x for x in graph.steps if x.operation.name == "block_0"]
        >>> block.node.outputs[0].shape
        (None, 1, 16)
    """
    graph = model_graph(model)
    head = None if graph is None else _sparing_head(graph)
    if graph is None or head is None:
        return graph
    key = [*(step.node for step in graph.steps), getattr(head[0].operation, "pooling", None)]
    of, spared = vars(model).get(_KEPT, (None, None))
    if of != key:
        spared = _spare(graph, *head)
        # Kept, since a fit that cuts the same calls again compiles nothing anew.
        object.__setattr__(model, _KEPT, (key, spared))
    return spared


def computes_at(step: Step) -> bool:
    """Tell whether a call can be made for some positions alone: a block's, by `positions`.

    Args:
        step: Of a graph.
    """
    return (
        type(step.operation) is TransformerBlock
        # They sum all positions.
        and all(x.activity_regularizer is None for x in step.operation._flatten_layers())
        and step.argument("position_bias") is None
        and step.argument("positions") is None
    )


def _sparing_head(graph: ModelGraph) -> tuple[Step, list[Step]] | None:
    """The step that takes few positions, and those from the block to it; None if there is none."""
    functional = functional_of(graph.model)
    own = {id(node) for nodes in functional._nodes_by_depth.values() for node in nodes}
    if not all(id(step.node) in own for step in graph.steps):
        return None
    for step in graph.steps:
        layer = step.operation
        # Flash attention for all positions takes less memory than the scores of some.
        gathers = type(layer) is GatherPositions and not has_flash_attention()
        pools = type(layer) is MaskedPooling and layer.pooling in ("first", "last")
        if pools and step.argument("padding_mask") is None:
            continue
        if (gathers or pools) and layer.activity_regularizer is None:
            chain = _chain_below(graph, step)
            if chain:
                return step, chain
    return None


def _spare(graph: ModelGraph, head: Step, chain: list[Step]) -> ModelGraph | None:
    functional = functional_of(graph.model)
    values: dict[int, Any] = dict(enumerate(graph.symbols))
    gathers = type(head.operation) is GatherPositions
    mask = None if gathers else head.argument("padding_mask")
    positions = (
        ops.cast(head.argument("positions"), "int32")
        if gathers
        else _pooled_position(head.operation.pooling, mask)
    )
    run_step(chain[0], values, None, positions=positions)
    for norm in chain[1:]:
        run_step(norm, values, None)
    found = values[chain[-1].outputs[0]]
    if not gathers:
        taken = ops.take_along_axis(mask, positions, axis=1)
        found = head.operation(found, padding_mask=taken)
    values[head.outputs[0]] = found
    changed = {*(x for step in chain for x in step.outputs), *head.outputs}
    for step in graph.steps[graph.steps.index(head) + 1 :]:
        if changed.intersection(step.inputs.values()):
            run_step(step, values, None)
            changed.update(step.outputs)
    outputs = [values[x] for x in graph.outputs]
    spared = model_graph(keras.Model(functional._inputs_struct, outputs))
    if spared is not None:
        _forget_calls(graph, spared)
        spared.model, spared.spares = graph.model, True
    return spared


def _forget_calls(graph: ModelGraph, spared: ModelGraph) -> None:
    """Let layers know nothing of the calls that were added: `summary` shows the latest."""
    added = {id(step.node) for step in spared.steps} - {id(step.node) for step in graph.steps}
    for symbol in graph.symbols:
        operation = symbol._keras_history.operation
        for nodes in (operation._inbound_nodes, operation._outbound_nodes):
            nodes[:] = [node for node in nodes if id(node) not in added]


def _chain_below(graph: ModelGraph, step: Step) -> list[Step]:
    """The block whose features a step takes, and the normalizations between, used by no other."""
    chain: list[Step] = []
    wanted = step.inputs[id(step.argument("inputs"))]
    while wanted not in graph.outputs:
        users = [each for each in graph.steps if wanted in each.inputs.values()]
        maker = next((each for each in graph.steps if wanted in each.outputs), None)
        if len(users) != 1 or maker is None:
            return []
        chain.insert(0, maker)
        if computes_at(maker):
            return chain
        is_norm = computes_as_known(maker.operation, _NORMS)
        if not is_norm or maker.operation.activity_regularizer is not None:
            return []
        (wanted,) = maker.inputs.values()
    return []


def _pooled_position(pooling: str, mask: Any) -> Any:
    """The position of the first or the last token, (batch, 1) int32; 0 in a row without any."""
    real = ops.cast(ops.cast(mask, "bool"), "int32")
    columns = ops.zeros_like(real)
    if pooling == "last":
        columns = ops.where(real > 0, ops.cumsum(ops.ones_like(real), axis=1) - 1, 0)
    return ops.max(columns, axis=1, keepdims=True)
