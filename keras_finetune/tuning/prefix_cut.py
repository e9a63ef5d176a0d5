"""Where a model is cut: below, nothing trains; above, everything is computed in every step."""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_finetune.models.model_graph import ModelGraph, Step, needed_steps
from keras_finetune.models.position_wise import head_tensors
from keras_finetune.tuning.spared_positions import sparing_graph

# Libraries whose layers draw random numbers from Keras's seed generators, and no others.
_WITH_SEED_GENERATORS = ("keras.", "keras_hub.", "keras_finetune.")


@dataclass(frozen=True, eq=False)
class PrefixCut:
    """A model's frozen prefix.

    Attributes:
        graph: The model's graph.
        tensors: Numbers of the tensors that cross the cut, which are what a cache holds.
        prefix: The steps below the cut.
        suffix: The steps that remain: what trains and all above it, and what has no weights below.
    """

    graph: ModelGraph
    tensors: tuple[int, ...]
    prefix: list[Step]
    suffix: list[Step]

    @property
    def head(self) -> int | None:
        """The lowest tensor above the cut, or on it, from which each output follows alone."""
        made = {number for step in self.suffix for number in step.outputs}.union(self.tensors)
        found = head_tensors(self.graph)[:-1]
        return next((number for number in found if number in made), None)

    def variables(self) -> list[keras.Variable]:
        """The weights below the cut, on which the tensors depend."""
        found = {id(v): v for step in self.prefix for v in _weights(step.operation)}
        return list(found.values())

    def multiplications(self) -> tuple[int, int]:
        """Roughly how many a token costs forwards, below the cut and above it."""
        return _multiplications(self.prefix), _multiplications(self.suffix)


def find_cut(model: keras.Model) -> PrefixCut | None:
    """Cut a model at its lowest trainable layers.

    Above the cut are the layers that train, what depends on them, and dropout between the last
    frozen weights and the first trainable ones, which is theirs. Layers that draw random numbers
    and are no dropout, such as augmentations, are above it too, with all that follows them; so are
    a user's own layers that have no weights and a `call` that takes `training`, and a `Lambda`
    whose function does; those with an activity regularizer, whose loss counts; and recurrent ones
    that are `stateful`, which go on from batch to batch.

    Args:
        model: Any built Keras model.

    Returns:
        The cut, or None where no weights lie below one: the lowest layer trains, or the model is no
        functional or sequential one.

    Example:
        >>> model = keras.Sequential([
        ...     keras.Input((4,)), keras.layers.Dense(3, name="low"), keras.layers.Dense(2)])
        >>> find_cut(model) is None
        True
        >>> model.get_layer("low").trainable = False
        >>> [step.operation.name for step in find_cut(model).prefix]
        ['low']
    """
    graph = sparing_graph(model)
    if graph is None:
        return None
    above = _above(graph)
    rows = graph.symbols[graph.inputs[0]].shape[:1]
    heavy = _heavy([step for step in graph.steps if step not in above], rows)
    inside = {tensor for step in heavy for tensor in step.outputs}
    wanted = {tensor for step in above for tensor in step.inputs.values()} | set(graph.outputs)
    # What has no weights is computed again from the inputs, rather than stored.
    light = [step for step in graph.steps if step not in above and step not in heavy]
    for step in reversed(light):
        if wanted.intersection(step.outputs):
            wanted.update(step.inputs.values())
    tensors = tuple(sorted(inside & wanted))
    if not tensors or not above:
        return None
    prefix = needed_steps(graph, graph.inputs, tensors)
    suffix = needed_steps(graph, [*graph.inputs, *tensors], graph.outputs)
    return PrefixCut(graph, tensors, prefix, suffix)


def uncut(model: keras.Model) -> PrefixCut | None:
    """Make what stands for a model that is not cut: all of it above, nothing below.

    Args:
        model: Any built Keras model.

    Returns:
        The cut, or None where the model is no functional or sequential one.
    """
    graph = sparing_graph(model)
    if graph is None:
        return None
    return PrefixCut(graph, (), [], needed_steps(graph, graph.inputs, graph.outputs))


def _above(graph: ModelGraph) -> set[Step]:
    # What the optimizer gets: a layer's own flag may say otherwise of the layers inside it.
    trainable = {id(v) for v in graph.model.trainable_variables}
    trains = {step for step in graph.steps if _trains(step.operation, trainable)}
    augments = {
        step for step in graph.steps if _augments(step.operation) and not _weights(step.operation)
    }
    adds_losses = {
        step
        for step in graph.steps
        if any(getattr(x, "activity_regularizer", None) for x in _layers(step.operation))
    }
    remembers = {
        step
        for step in graph.steps
        if any(getattr(x, "stateful", False) for x in _layers(step.operation))
    }
    above = _with_all_above(graph, trains | augments | adds_losses | remembers)
    frozen = [step for step in graph.steps if step not in above and _weights(step.operation)]
    below_frozen: set[Step] = set()
    open_ = {tensor for step in frozen for tensor in step.inputs.values()}
    for step in reversed(graph.steps):
        if open_.intersection(step.outputs):
            below_frozen.add(step)
            open_.update(step.inputs.values())
    between = {
        step
        for step in graph.steps
        if step not in below_frozen and not _weights(step.operation) and _is_random(step.operation)
    }
    return _with_all_above(graph, above | between)


def _with_all_above(graph: ModelGraph, steps: set[Step]) -> set[Step]:
    found, tensors = set(steps), {tensor for step in steps for tensor in step.outputs}
    for step in graph.steps:
        if step in found or tensors.intersection(step.inputs.values()):
            found.add(step)
            tensors.update(step.outputs)
    return found


def _heavy(steps: Iterable[Step], rows: tuple[int | None, ...]) -> list[Step]:
    """Those that have weights or follow one that has, and whose tensors belong to rows."""
    found: list[Step] = []
    tensors: set[int] = set()
    for step in steps:
        follows = _weights(step.operation) or tensors.intersection(step.inputs.values())
        if follows and all(x.shape[:1] == rows for x in step.node.outputs):
            found.append(step)
            tensors.update(step.outputs)
    return found


def _trains(operation: Any, trainable: set[int]) -> bool:
    return any(id(v) in trainable for v in _weights(operation)) or any(
        map(_learns_by_itself, _layers(operation))
    )


def _learns_by_itself(layer: Any) -> bool:
    """Tell whether an unfrozen layer has state that a step may change without a gradient.

    The averages of a batch normalization without scale and offset are such. What `adapt` sets, as
    in `keras.layers.Normalization`, stays as it is.
    """
    return layer.trainable and bool(layer._non_trainable_variables) and not hasattr(layer, "adapt")


def _weights(operation: Any) -> list[keras.Variable]:
    return list(getattr(operation, "weights", ()))


def _layers(operation: Any) -> list[Any]:
    return operation._flatten_layers() if isinstance(operation, keras.layers.Layer) else []


def _is_random(operation: Any) -> bool:
    return any(getattr(layer, "_seed_generators", ()) for layer in _layers(operation))


def _augments(operation: Any) -> bool:
    """Tell whether this may change its inputs in training, and is no dropout."""
    if _is_random(operation):
        return not _is_dropout(operation)
    return any(map(_does_otherwise_in_training, _layers(operation)))


def _does_otherwise_in_training(layer: Any) -> bool:
    """Tell whether what a user wrote, a layer or a `Lambda`'s function, takes `training`."""
    if getattr(layer, "_fn_expects_training_arg", False):  # Keras's mark on a Lambda.
        return True
    kind = type(layer)
    is_own = not kind.__module__.startswith(_WITH_SEED_GENERATORS)
    told = is_own and "training" in inspect.signature(kind.call).parameters
    return told and "dropout" not in kind.__name__.lower()


def _is_dropout(operation: Any) -> bool:
    return all(
        "dropout" in type(layer).__name__.lower()
        for layer in _layers(operation)
        if getattr(layer, "_seed_generators", ())
    )


def multiplications(layers: Iterable[Any]) -> int:
    """Roughly how many a token costs forwards: the entries of the matrices that it meets.

    Args:
        layers: Keras layers, flat: of a layer within a layer, only the inner one's own count.
    """
    variables = {
        id(v): v
        for layer in layers
        if "embedding" not in type(layer).__name__.lower()
        for v in layer._trainable_variables + layer._non_trainable_variables
    }
    return int(sum(np.prod(v.shape) for v in variables.values() if len(v.shape) > 1))


def _multiplications(steps: Iterable[Step]) -> int:
    return multiplications(layer for step in steps for layer in _layers(step.operation))
