"""A functional model as a flat list of steps, which can be run from any tensors inside it."""

import functools
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras


@dataclass(frozen=True, eq=False)
class Step:
    """One call of an operation.

    Attributes:
        operation: What is called, a layer mostly.
        node: Keras's record of the call.
        inputs: Number of each tensor that goes in, by the id of Keras's symbol for it.
        outputs: Numbers of the tensors that come out.
    """

    operation: Any
    node: Any
    inputs: Mapping[int, int]
    outputs: tuple[int, ...]

    def argument(self, name: str) -> Any:
        """Return what a layer was called with, by the name in its `call`; None if with nothing."""
        given = self.node.arguments
        # Of the class: gradient checkpointing puts another in its place, which names nothing.
        call = inspect.signature(type(self.operation).call)
        bound = call.bind(self.operation, *given.args, **given.kwargs)
        return bound.arguments.get(name)


@dataclass(eq=False)
class ModelGraph:
    """The steps of a model, those of functional models inside it in their place.

    Tensors are numbers, the same ones whenever the same model is looked at.

    Attributes:
        model: The model.
        steps: In the order in which they run.
        inputs: Numbers of the model's inputs, in Keras's flat order.
        outputs: Numbers of its outputs, in that order.
        symbols: Keras's symbol of each tensor, which has its shape and dtype.
        spares: Whether it computes less than the model does, for the same outputs.
    """

    model: keras.Model
    steps: list[Step] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    symbols: list[Any] = field(default_factory=list)
    spares: bool = False


def model_graph(model: keras.Model) -> ModelGraph | None:
    """List the steps of a functional or sequential model.

    Args:
        model: Any Keras model.

    Returns:
        Its graph; None for a model that has none, as one with a `call` of its own.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="logits")])
        >>> [step.operation.name for step in model_graph(model).steps]
        ['logits']
    """
    functional = functional_of(model)
    if functional is None:
        return None
    graph = ModelGraph(model)

    def number(symbol: Any) -> int:
        graph.symbols.append(symbol)
        return len(graph.symbols) - 1

    def walk(functional: Any, names: dict[int, int]) -> list[int]:
        for depth in sorted(functional._nodes_by_depth, reverse=True):
            for node in functional._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                inside = _inputs_inside(node)
                if inside is None:
                    numbers = [number(x) for x in node.outputs]
                    given = {id(x): names[id(x)] for x in node.input_tensors}
                    graph.steps.append(Step(node.operation, node, given, tuple(numbers)))
                else:
                    known = {inner: names[outer] for inner, outer in inside.items()}
                    numbers = walk(functional_of(node.operation), known)
                names.update(zip(map(id, node.outputs), numbers, strict=True))
        return [names[id(x)] for x in functional.outputs]

    graph.inputs = [number(x) for x in functional.inputs]
    graph.outputs = walk(
        functional, dict(zip(map(id, functional.inputs), graph.inputs, strict=True))
    )
    return graph


def needed_steps(graph: ModelGraph, known: Iterable[int], wanted: Iterable[int]) -> list[Step]:
    """Return the steps between known tensors and wanted ones, in order."""
    known, open_ = set(known), set(wanted)
    found = []
    for step in reversed(graph.steps):
        if open_.intersection(step.outputs) - known:
            found.append(step)
            open_.update(step.inputs.values())
    return found[::-1]


def run_steps(steps: Sequence[Step], values: dict[int, Any], training: bool | None) -> None:
    """Run steps one after the other.

    Args:
        steps: From `needed_steps`.
        values: Tensors by number; what the steps give is added, what is there stays.
        training: What layers are told, or None.
    """
    for step in steps:
        if all(number in values for number in step.outputs):
            continue
        run_step(step, values, training)


def run_step(step: Step, values: dict[int, Any], training: bool | None, **more: Any) -> None:
    """Run a step.

    Args:
        step: From a graph.
        values: Tensors by number; what the step gives is added.
        training: What a layer is told, or None.
        **more: Further arguments of the call.
    """
    args, kwargs = step.node.arguments.fill_in({i: values[n] for i, n in step.inputs.items()})
    kwargs.update(more)
    if training is not None and isinstance(step.operation, keras.layers.Layer):
        kwargs["training"] = training
    outputs = keras.tree.flatten(step.operation(*args, **kwargs))
    values.update(zip(step.outputs, outputs, strict=True))


class ReadMask(keras.layers.Layer):
    """Returns the mask that Keras carries with a tensor, or None."""

    supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Return the mask."""
        return mask


class CarryMask(keras.layers.Layer):
    """Lets a tensor carry a mask: called with both."""

    def call(self, inputs: tuple[Any, Any]) -> Any:
        """Return the tensor."""
        return inputs[0]

    def compute_mask(self, inputs: tuple[Any, Any], previous_mask: Any = None) -> Any:
        """Return the mask."""
        return inputs[1]


def functional_of(operation: Any) -> Any:
    """Return the functional model that an operation runs, if that is all that it does, else None.

    A functional model is its own; a sequential one has it inside.
    """
    call = getattr(type(operation), "call", None)
    if call is keras.Sequential.call:
        return operation._functional
    return operation if call is _functional_call() else None


@functools.cache
def _functional_call() -> Any:
    x = keras.Input((1,))
    return type(keras.Model(x, x)).call


def _inputs_inside(node: Any) -> dict[int, int] | None:
    """Which tensor outside each input of a nested model is; None where they do not simply match."""
    functional = functional_of(node.operation)
    if functional is None or len(node.arguments.args) != 1:
        return None
    given, expected = node.arguments.args[0], functional._inputs_struct
    if any(value is not None for value in keras.tree.flatten(node.arguments.kwargs)):
        return None
    outer = keras.tree.flatten(given)
    by_name = isinstance(given, dict) and not isinstance(expected, dict)
    names = [x.name for x in functional.inputs] if by_name else expected
    if isinstance(given, dict) and not set(names) <= set(given):
        return None
    if isinstance(given, dict):
        outer = [given[name] for name in (names if by_name else sorted(names))]
    if len(outer) != len(functional.inputs):
        return None
    for inner, x in zip(functional.inputs, outer, strict=True):
        if not keras.utils.is_keras_tensor(x) or (x.dtype, len(x.shape)) != (
            inner.dtype,
            len(inner.shape),
        ):
            return None
    return {id(inner): id(x) for inner, x in zip(functional.inputs, outer, strict=True)}
