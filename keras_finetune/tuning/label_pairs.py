"""Which loss and which labels belong to which output of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_finetune.models.model_graph import functional_of
from keras_finetune.suggest import did_you_mean
from keras_finetune.tuning.input_checks import trains_as_keras


@dataclass(frozen=True)
class Target:
    """An output of a model, and what it is compared with.

    Attributes:
        name: The output's name; empty where there is one output.
        output: Keras's symbol of the output; None if not known.
        loss: Its loss; None if it has none, or that is not known.
        labels: Its labels, an array or a spec; None if not known.
        weight: Weights of its rows or positions; None if it has none.
    """

    name: str
    output: Any
    loss: Any
    labels: Any = None
    weight: Any = None


def pair_losses(model: keras.Model, loss: Any) -> list[Target]:
    """Pair each output of a model with its loss, as Keras does.

    Args:
        model: The model.
        loss: What `compile` was given: one for all outputs, or a dict, list or tuple.

    Returns:
        The pairs, in Keras's flat order of the outputs; none where they are not known.

    Raises:
        ValueError: A dict of losses names an output that there is not, or lacks one.

    Example:
        >>> x = keras.Input((4,))
        >>> model = keras.Model(x, {"kind": keras.layers.Dense(3)(x), "size": x})
        >>> [(pair.name, pair.loss) for pair in pair_losses(model, {"size": "mse"})]
        [('kind', None), ('size', 'mse')]
    """
    outputs = list(getattr(model, "outputs", None) or [])
    names = _output_names(model)
    if isinstance(loss, Mapping):
        _check_loss_names(model, loss, names)
        losses = [loss.get(name) for name in names]
    elif isinstance(loss, list | tuple):
        losses = list(loss)
    else:
        losses = [loss] * max(len(outputs), 1)
    if not outputs and len(losses) == 1:
        return [Target("", None, losses[0])]
    if len(losses) != len(outputs) or any(map(keras.tree.is_nested, losses)):
        return []
    if len(outputs) == 1:
        return [Target("", outputs[0], losses[0])]
    if len(names) != len(outputs):
        return []
    return list(map(Target, names, outputs, losses))


def pair_labels(
    side: str, model: keras.Model, loss: Any, labels: Any, weight: Any = None
) -> list[Target]:
    """Pair each output that has a loss with its labels, as Keras does.

    Args:
        side: What to call the data in an error.
        model: The model; what a training of its own compares is not known.
        loss: What `compile` was given.
        labels: Arrays or specs: one, or a dict, list or tuple of them.
        weight: The same of sample weights; one array counts for all outputs.

    Returns:
        The pairs whose labels are known.

    Raises:
        ValueError: A dict of labels names an output that there is not, or lacks one.
    """
    if loss is None or labels is None or not trains_as_keras(model):
        return []
    targets = pair_losses(model, loss)
    if isinstance(labels, Mapping):
        _check_label_names(side, model, loss, targets, labels)
    found = []
    for place, target in enumerate(targets):
        own = _part(labels, target.name, place, len(targets))
        if target.loss is not None and own is not None:
            own_weight = weight
            if keras.tree.is_nested(weight):
                own_weight = _part(weight, target.name, place, len(targets))
            found.append(Target(target.name, target.output, target.loss, own, own_weight))
    return found


def _part(nest: Any, name: str, place: int, count: int) -> Any:
    """The part of a nest that belongs to an output; None where that is not known."""
    if isinstance(nest, Mapping) and count > 1:
        part = nest.get(name)
    elif isinstance(nest, Mapping):
        part = next(iter(nest.values())) if len(nest) == 1 else None
    elif isinstance(nest, list | tuple):
        part = nest[place] if len(nest) == count else None
    else:
        part = nest if count == 1 else None
    return None if keras.tree.is_nested(part) else part


def _output_names(model: keras.Model) -> list[str]:
    """Names of a model's outputs in Keras's flat order; none where they are not known."""
    functional = functional_of(model)
    if functional is None:
        return []
    expected = functional._outputs_struct
    if not isinstance(expected, Mapping):
        return list(getattr(model, "output_names", None) or [])
    paths = keras.tree.flatten_with_path(dict(expected))
    return [path[0] for path, _ in paths] if all(len(path) == 1 for path, _ in paths) else []


def _check_loss_names(model: keras.Model, loss: Mapping[str, Any], names: Sequence[str]) -> None:
    own_compile = type(model).compile is not keras.Model.compile
    if not names or own_compile or not trains_as_keras(model):
        return
    given = [name for name, each in loss.items() if each is not None]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(
            f"The losses are for {_listed(given)}, but the model has the outputs {_listed(names)}."
            f"{did_you_mean(str(unknown[0]), names)}"
        )
    # Of a dict of outputs some may go without.
    missing = [name for name in names if name not in loss]
    if missing and not isinstance(functional_of(model)._outputs_struct, Mapping):
        raise ValueError(
            f"The losses lack the output {_listed(missing)}. The model has {_listed(names)}. Give "
            f"{{{missing[0]!r}: None, ...}} for one without a loss."
        )


def _check_label_names(
    side: str, model: keras.Model, loss: Any, targets: Sequence[Target], labels: Mapping[str, Any]
) -> None:
    names, functional = _output_names(model), functional_of(model)
    if functional is None or not targets:
        return
    # Keras pairs as many labels as there are losses off, whatever they are called.
    losses = [each for each in keras.tree.flatten(loss) if each is not None]
    if keras.tree.is_nested(loss) and len(targets) != len(labels) == len(losses):
        return
    if not keras.tree.is_nested(functional._outputs_struct):
        raise ValueError(
            f"The {side} has a dict of labels, {_listed(labels)}, but the model has one output. "
            "Give the array of its labels."
        )
    missing = [name for name in names if name not in labels]
    unknown = [name for name in labels if name not in names]
    if names and (missing or unknown):
        hint = did_you_mean(str(unknown[0]), missing or names) if unknown else ""
        raise ValueError(
            f"The labels of the {side} are for {_listed(labels)}, but the model has the outputs "
            f"{_listed(names)}. Give an array for each.{hint}"
        )


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
