"""Positions that a head leaves out, such as all but `[CLS]`: the topmost block spares them."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_finetune.models import GatherPositions, MaskedPooling, TransformerBlock
from keras_finetune.models.flash_attention import has_flash_attention
from keras_finetune.models.model_graph import ModelGraph, Step, model_graph, run_step
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
    if graph is None:
        return None
    nodes = [step.node for step in graph.steps]
    of, spared = vars(model).get(_KEPT, (None, None))
    if of != nodes:
        spared = _spare(graph)
        # Kept, since a fit that cuts the same calls again compiles nothing anew.
        object.__setattr__(model, _KEPT, (nodes, spared))
    return graph if spared is None else spared


def computes_at(step: Step) -> bool:
    """Tell whether a call can be made for some positions alone: a block's, by `positions`.

    Args:
        step: Of a graph.
    """
    taken = {"position_bias", "positions"}
    return (
        type(step.operation) is TransformerBlock
        and step.operation.activity_regularizer is None  # It sums all positions.
        and not taken & set(step.node.arguments.kwargs)
    )


def _spare(graph: ModelGraph) -> ModelGraph | None:
    functional = getattr(graph.model, "_functional", None) or graph.model
    own = {id(node) for nodes in functional._nodes_by_depth.values() for node in nodes}
    for number, step in enumerate(graph.steps):
        find = _FINDERS.get(type(step.operation))
        if find is None or not all(id(each.node) in own for each in graph.steps):
            continue
        chain = _chain_below(graph, step)
        found = find(step) if chain else None
        if found is None:
            continue
        positions, pool = found
        values: dict[int, Any] = dict(enumerate(graph.symbols))
        run_step(chain[0], values, None, positions=positions)
        for norm in chain[1:]:
            run_step(norm, values, None)
        values[step.outputs[0]] = pool(values[chain[-1].outputs[0]])
        changed = {*(x for each in chain for x in each.outputs), *step.outputs}
        for above in graph.steps[number + 1 :]:
            if changed.intersection(above.inputs.values()):
                run_step(above, values, None)
                changed.update(above.outputs)
        outputs = [values[x] for x in graph.outputs]
        spared = model_graph(keras.Model(functional._inputs_struct, outputs))
        if spared is not None:
            spared.model, spared.spares = graph.model, True
        return spared
    return None


def _chain_below(graph: ModelGraph, step: Step) -> list[Step]:
    """The block whose features a step takes, and the normalizations between, used by no other."""
    chain: list[Step] = []
    wanted = step.inputs[id(step.node.arguments.args[0])]
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


def _of_pooling(step: Step) -> tuple[Any, Callable[[Any], Any]] | None:
    """The position of the first or the last token, and the pooling of what is computed there."""
    pooling, (args, kwargs) = step.operation, (step.node.arguments.args, step.node.arguments.kwargs)
    mask = args[1] if len(args) > 1 else kwargs.get("padding_mask")
    if pooling.pooling not in ("first", "last") or mask is None:
        return None
    mask = ops.cast(mask, "int32")
    columns = ops.zeros_like(mask)
    if pooling.pooling == "last":
        columns = ops.where(mask > 0, ops.cumsum(ops.ones_like(mask), axis=1) - 1, 0)
    positions = ops.max(columns, axis=1, keepdims=True)
    taken = ops.take_along_axis(mask, positions, axis=1)
    return positions, lambda x: pooling(x, padding_mask=taken)


def _of_gathering(step: Step) -> tuple[Any, Callable[[Any], Any]] | None:
    """The positions that are gathered, which are all that is computed then."""
    # Flash attention for all positions takes less memory than the scores of some.
    if has_flash_attention():
        return None
    args, kwargs = step.node.arguments.args, step.node.arguments.kwargs
    return ops.cast(args[1] if len(args) > 1 else kwargs["positions"], "int32"), lambda x: x


_FINDERS = {MaskedPooling: _of_pooling, GatherPositions: _of_gathering}
