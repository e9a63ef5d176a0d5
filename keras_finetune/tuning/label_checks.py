"""Checks that labels, loss and the model's outputs fit each other."""

from typing import Any

import keras
import numpy as np

from keras_finetune.tuning.input_checks import trains_as_keras
from keras_finetune.tuning.label_pairs import pair_losses

_SPARSE, _ONE_HOT, _BINARY, _OF_NUMBERS = "sparse", "one-hot", "binary", "of numbers"
_ONE_HOT_LOSSES = ("categoricalcrossentropy", "categoricalfocalcrossentropy")
# Those of Keras that compare each output with a number of its own.
_LOSSES_OF_NUMBERS = (
    *("mse", "mae", "mape", "msle", "meansquarederror", "meanabsoluteerror"),
    *("meanabsolutepercentageerror", "meansquaredlogarithmicerror", "cosinesimilarity", "huber"),
    *("logcosh", "poisson", "kld", "kldivergence", "hinge", "squaredhinge", "categoricalhinge"),
)


def check_loss(model: keras.Model, loss: Any) -> None:
    """Refuse a loss that takes logits for probabilities, or the other way round.

    Args:
        model: The model, whose last layers are looked at.
        loss: What `compile` was given; None is not checked.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="logits")])
        >>> check_loss(model, "sparse_categorical_crossentropy")
        Traceback (most recent call last):
        ...
        ValueError: The loss 'sparse_categorical_crossentropy' expects probabilities, but the ...
    """
    for target in pair_losses(model, loss) if trains_as_keras(model) else []:
        last = f"the output {target.name!r}" if target.name else "the model's last layer"
        _check_activation(last, target.loss, _activation_of(target.output))


def _check_activation(last: str, loss: Any, activation: str | None) -> None:
    is_judged = _loss_kind(loss) not in (None, _OF_NUMBERS)
    if not is_judged or not isinstance(loss, str | keras.losses.Loss) or activation is None:
        return
    from_logits = bool(getattr(loss, "from_logits", False)) or _wrapped_from_logits(loss)
    name = loss if isinstance(loss, str) else type(loss).__name__
    if activation == "linear" and not from_logits:
        raise ValueError(
            f"The loss {name!r} expects probabilities, but {last} gives logits (no activation). "
            "Use the loss object with from_logits=True, or give the layer "
            'activation="softmax" (or "sigmoid").'
        )
    if activation in ("softmax", "sigmoid") and from_logits:
        raise ValueError(
            f"The loss {name!r} expects logits (from_logits=True), but {last} gives probabilities "
            f"(activation={activation!r}). Drop one of the two."
        )


def check_labels(
    side: str,
    loss: Any,
    output: tuple[int | None, ...] | None,
    labels: np.ndarray,
    uncounted: "np.ndarray | None" = None,
) -> "np.ndarray | None":
    """Refuse labels that the loss cannot take.

    Args:
        side: What to call the data in an error.
        loss: What `compile` was given.
        output: The shape of the model's output with the axis of rows; None if not known.
        labels: The labels as one array.
        uncounted: Which of the labels the loss leaves out, of the same shape; None for none.

    Returns:
        (classes,) rows of each class, or None where the labels are not one class a row.
    """
    kind = _loss_kind(loss)
    flat = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
    units = output[-1] if output is not None and len(output) == 2 else None
    if kind == _ONE_HOT:
        if labels.size and (labels.min() < 0 or labels.max() > 1):
            raise ValueError(
                f"One-hot labels are 0 and 1, or shares between. The {side} has labels from "
                f"{labels.min()} to {labels.max()}."
            )
        return labels.reshape(-1, labels.shape[-1]).sum(axis=0) if labels.ndim == 2 else None
    if kind == _SPARSE and output is not None and len(output) > 2:
        _check_classes_of_positions(side, loss, output, labels, uncounted)
        return None
    if kind not in (_SPARSE, _BINARY) or not flat or (kind == _BINARY and units not in (1, None)):
        return None
    if labels.dtype.kind == "f" and kind == _BINARY and ((labels > 0) & (labels < 1)).any():
        return None  # Soft labels are fine here.
    classes = 2 if kind == _BINARY else units
    counted = _counted(side, loss, labels, uncounted)
    _check_range(side, labels.reshape(-1), counted.reshape(-1), classes)
    labels = labels[_counted(side, loss, labels, None)]
    known = labels[(labels >= 0) & (labels < (classes or np.inf))]
    return np.bincount(known.astype(np.int64), minlength=classes or 0)


def _check_classes_of_positions(
    side: str,
    loss: Any,
    output: tuple[int | None, ...],
    labels: np.ndarray,
    uncounted: "np.ndarray | None",
) -> None:
    """Check classes of tokens, pixels and the like: each has a vector of scores."""
    if labels.ndim == len(output) and labels.shape[-1] == 1:
        labels = labels[..., 0]
        uncounted = None if uncounted is None else uncounted[..., 0]
    if labels.ndim == len(output) - 1 and output[-1] != 1 and _is_over_last_axis(loss, output):
        _check_range(side, labels, _counted(side, loss, labels, uncounted), output[-1])


def _counted(
    side: str, loss: Any, labels: np.ndarray, uncounted: "np.ndarray | None"
) -> np.ndarray:
    """Which labels the loss counts."""
    counted = np.ones(labels.shape, bool) if uncounted is None else ~uncounted
    ignored = getattr(loss, "ignore_class", None)
    if ignored is None:
        return counted
    if labels.size and (labels == ignored).all():
        raise ValueError(f"All labels of the {side} are {ignored}, which the loss ignores.")
    found: np.ndarray = counted & (labels != ignored)
    return found


def _check_range(side: str, labels: np.ndarray, counted: np.ndarray, classes: int | None) -> None:
    """Refuse labels that are no class from 0 to `classes`."""
    if labels.dtype.kind == "f" and (labels != np.round(labels))[counted].any():
        wrong = labels[counted & (labels != np.round(labels))][0]
        raise ValueError(
            f"The {side} has the label {wrong}, but a class is a whole number. Is this the "
            "label column? For a number to predict use another loss, for example "
            '"mean_squared_error".'
        )
    bad = labels < 0
    if classes is not None:
        bad |= labels >= classes
    found = np.argwhere(bad & counted)
    if len(found):
        row, *position = found[0].tolist()
        where = f"row {row}" + (f", position {', '.join(map(str, position))}" if position else "")
        upper = "" if classes is None else f" to {classes - 1}"
        raise ValueError(
            f"The {side} has the label {int(labels[tuple(found[0])])} in {where}, but the model "
            f"knows the classes 0{upper}. Correct the label, or build the model with more classes."
        )


def check_label_shape(
    side: str,
    loss: Any,
    output: tuple[int | None, ...] | None,
    shape: tuple[int | None, ...],
) -> None:
    """Refuse labels of a shape that fails in the first step, or is spread over the outputs.

    Args:
        side: What to call the data in an error.
        loss: What `compile` was given.
        output: The shape of the model's output with the axis of rows; None if not known.
        shape: The labels' shape with the axis of rows, None where it varies.

    Example:
        >>> check_label_shape("training data", "mse", (None, 3), (32, 3))
        >>> check_label_shape("training data", "mse", (None, 3), (32, 1))
        Traceback (most recent call last):
        ...
        ValueError: The loss mse compares each of the model's 3 output(s) with a number of its ...
    """
    kind = _loss_kind(loss)
    units = None if output is None else output[-1]
    if kind is None or output is None or units is None or not shape:
        return
    if kind == _SPARSE and len(output) > 2 and _is_over_last_axis(loss, output):
        _check_shape_of_positions(side, output, shape)
    if None in shape[1:] or len(output) != 2:
        return
    sizes, of_outputs = _without_last_one(shape[1:]), _without_last_one((units,))
    if kind == _SPARSE and sizes:
        raise ValueError(
            "sparse_categorical_crossentropy expects integer labels of shape (rows,). The "
            f"{side} has labels of shape {shape}. Use the loss categorical_crossentropy for "
            "one-hot labels."
        )
    if kind == _ONE_HOT and sizes != of_outputs:
        raise ValueError(
            f"categorical_crossentropy expects one-hot labels of shape (rows, {units}). The "
            f"{side} has labels of shape {shape}. Use keras.utils.to_categorical(y, {units}), or "
            "the loss sparse_categorical_crossentropy for integer labels."
        )
    if kind in (_BINARY, _OF_NUMBERS) and sizes != of_outputs:
        raise ValueError(
            f"The loss {_loss_name(loss)} compares each of the model's {units} output(s) with a "
            f"number of its own, but the {side} has labels of shape {shape}. For classes use the "
            "loss sparse_categorical_crossentropy; for numbers to predict give the last layer as "
            "many units as a row has numbers."
        )


def _check_shape_of_positions(
    side: str, output: tuple[int | None, ...], shape: tuple[int | None, ...]
) -> None:
    expected, units = output[1:-1], output[-1]
    sizes = shape[1:-1] if len(shape) == len(output) and shape[-1] in (1, None) else shape[1:]
    # How many positions there are is the data's affair: a sequential model takes other lengths.
    if units != 1 and len(sizes) != len(expected):
        wanted = ", ".join("length" if size is None else str(size) for size in expected)
        raise ValueError(
            f"sparse_categorical_crossentropy expects integer labels of shape (rows, {wanted}): a "
            f"class for each vector of {units} scores. The {side} has labels of shape {shape}."
        )


def _without_last_one(sizes: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Keras adds or drops a last axis of 1 where only one side has it."""
    return sizes[:-1] if sizes[-1:] == (1,) else sizes


def num_outputs(model: keras.Model) -> int | None:
    """Return the size of a model's one output vector, or None."""
    outputs = getattr(model, "outputs", None) or []
    if len(outputs) != 1 or len(outputs[0].shape) != 2:
        return None
    return outputs[0].shape[-1]


def num_classes(model: keras.Model, loss: Any) -> int | None:
    """Return how many classes a model tells apart, or None where that is not known."""
    units, targets = num_outputs(model), pair_losses(model, loss)
    kinds = {_loss_kind(target.loss) for target in targets}
    if units is None or not kinds or not kinds <= {_SPARSE, _ONE_HOT, _BINARY}:
        return None
    return 2 if units == 1 and kinds != {_SPARSE} else units


def _loss_name(loss: Any) -> str:
    if isinstance(loss, str):
        return loss
    return str(getattr(_definition(loss), "__name__", ""))


def _definition(loss: Any) -> Any:
    """The class or function that a loss is."""
    return type(loss) if isinstance(loss, keras.losses.Loss) else loss


def _loss_kind(loss: Any) -> str | None:
    """What one of Keras's own losses compares; a user's may do anything under any name."""
    module = "keras" if isinstance(loss, str) else getattr(_definition(loss), "__module__", None)
    if str(module).split(".")[0] != "keras":
        return None
    name = _loss_name(loss).lower().replace("_", "")
    if "sparsecategorical" in name:
        return _SPARSE
    if "binary" in name and "crossentropy" in name:
        return _BINARY
    if name in _ONE_HOT_LOSSES:
        return _ONE_HOT
    return _OF_NUMBERS if name in _LOSSES_OF_NUMBERS else None


def _is_over_last_axis(loss: Any, output: tuple[int | None, ...]) -> bool:
    return getattr(loss, "_fn_kwargs", {}).get("axis", -1) in (-1, len(output) - 1)


def _wrapped_from_logits(loss: Any) -> bool:
    return bool(getattr(loss, "_fn_kwargs", {}).get("from_logits", False))


def _activation_of(output: Any) -> str | None:
    """The activation that gives an output, if a Dense layer's or an Activation's."""
    history: Any = getattr(output, "_keras_history", None)
    layer = getattr(history, "operation", None)
    if not isinstance(layer, keras.layers.Dense | keras.layers.Activation):
        return None
    name: str | None = getattr(layer.activation, "__name__", None)
    if isinstance(layer, keras.layers.Activation) and name == "linear":
        # It changes the dtype at most, as mixed precision has it.
        return _activation_of(layer._inbound_nodes[history.node_index].input_tensors[0])
    return name
