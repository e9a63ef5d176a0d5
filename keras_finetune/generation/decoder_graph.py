"""A model's graph as a decoder sees it: its target, its blocks, its head."""

import inspect
from collections import Counter
from typing import Any

import keras

from keras_finetune.models import TransformerBlock
from keras_finetune.models.model_graph import ModelGraph, Step, needed_steps


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
    """Steps one by one, but blocks of which each only reads the one before together.

    Such blocks have the same position bias, too.
    """
    readers = Counter(number for step in steps for number in step.inputs.values())
    found: list[list[Step]] = []
    for step in steps:
        if isinstance(step.operation, TransformerBlock) and found:
            before = found[-1][-1]
            made = before.outputs[0]
            follows = made == argument(step, "inputs") and readers[made] == 1
            if isinstance(before.operation, TransformerBlock) and follows:
                biases = {argument(each, "position_bias") for each in (before, step)}
                if len(biases) == 1:
                    found[-1].append(step)
                    continue
        found.append([step])
    return found


def head_start(chains: list[list[Step]], first: int) -> int:
    """Find the head, which only a row's last token goes through.

    Args:
        chains: From `chains`.
        first: From here on nothing looks back.

    Returns:
        The number of the chain with which the head begins: nothing after it reads more than what
        goes into it. The number of chains, if there is no such one.
    """
    for number in range(first, len(chains)):
        rest = [step for steps in chains[number:] for step in steps]
        made = {x for step in rest for x in step.outputs}
        read = {x for step in rest for x in step.inputs.values()} - made
        # Token ids are no features.
        of_features = all(len(x.shape) == 3 for x in rest[0].node.input_tensors)
        if _is_head(rest[0]) and of_features and len(read) == 1:
            return number
    return len(chains)


def argument(step: Step, name: str) -> int | None:
    """The number of the tensor that a layer was called with; "inputs" is its first argument."""
    first = next(iter(inspect.signature(step.operation.call).parameters))
    value = step.argument(first if name == "inputs" else name)
    return None if value is None else step.inputs[id(value)]


def _is_head(step: Step) -> bool:
    name: str = step.operation.name
    return name.startswith("head_") or bool(step.node.arguments.kwargs.get("reverse"))
