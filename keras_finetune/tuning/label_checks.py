"""Checks that labels, loss and the model's outputs fit each other."""

from typing import Any

import keras
import numpy as np

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
        model: The model, whose last layer is looked at.
        loss: What `compile` was given; None is not checked.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="logits")])
        >>> check_loss(model, "sparse_categorical_crossentropy")
        Traceback (most recent call last):
        ...
        ValueError: The loss 'sparse_categorical_crossentropy' expects probabilities, but the ...
    """
    is_judged = _loss_kind(loss) not in (None, _OF_NUMBERS)
    if not is_judged or not isinstance(loss, str | keras.losses.Loss):
        return
    activation = _last_activation(model)
    if activation is None:
        return
    from_logits = bool(getattr(loss, "from_logits", False)) or _wrapped_from_logits(loss)
    name = loss if isinstance(loss, str) else type(loss).__name__
    if activation == "linear" and not from_logits:
        raise ValueError(
            f"The loss {name!r} expects probabilities, but the model's last layer gives logits "
            "(no activation). Use the loss object with from_logits=True, or give the last layer "
            'activation="softmax" (or "sigmoid").'
        )
    if activation in ("softmax", "sigmoid") and from_logits:
        raise ValueError(
            f"The loss {name!r} expects logits (from_logits=True), but the model's last layer "
            f"gives probabilities (activation={activation!r}). Drop one of the two."
        )


def check_labels(
    side: str, loss: Any, units: int | None, labels: np.ndarray
) -> "np.ndarray | None":
    """Refuse labels that the loss cannot take.

    Args:
        side: What to call the data in an error.
        loss: What `compile` was given.
        units: The model's outputs, or None if not known.
        labels: The labels as one array.

    Returns:
        (classes,) rows of each class, or None where the labels are not one class a row.
    """
    kind = _loss_kind(loss)
    flat = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
    if kind == _ONE_HOT:
        if labels.size and (labels.min() < 0 or labels.max() > 1):
            raise ValueError(
                f"One-hot labels are 0 and 1, or shares between. The {side} has labels from "
                f"{labels.min()} to {labels.max()}."
            )
        return labels.reshape(-1, labels.shape[-1]).sum(axis=0) if labels.ndim == 2 else None
    if kind not in (_SPARSE, _BINARY) or not flat:
        return None
    labels = labels.reshape(-1)
    ignored = getattr(loss, "ignore_class", None)
    if ignored is not None:
        labels = labels[labels != ignored]
        if not labels.size:
            raise ValueError(f"All labels of the {side} are {ignored}, which the loss ignores.")
    if kind == _BINARY and units not in (1, None):
        return None
    if labels.dtype.kind == "f":
        if kind == _BINARY:  # Soft labels are fine here.
            return None if ((labels > 0) & (labels < 1)).any() else _count(side, labels, 2)
        if (labels != np.round(labels)).any():
            wrong = labels[labels != np.round(labels)][0]
            raise ValueError(
                f"The {side} has the label {wrong}, but a class is a whole number. Is this the "
                "label column? For a number to predict use another loss, for example "
                '"mean_squared_error".'
            )
    return _count(side, labels, 2 if kind == _BINARY else units)


def check_label_shape(
    side: str, loss: Any, units: int | None, shape: tuple[int | None, ...]
) -> None:
    """Refuse labels of a shape that fails in the first step, or is spread over the outputs.

    Args:
        side: What to call the data in an error.
        loss: What `compile` was given.
        units: The model's outputs, or None if not known.
        shape: The labels' shape with the axis of rows, None where it varies.

    Example:
        >>> check_label_shape("training data", "mse", 3, (32, 3))
        >>> check_label_shape("training data", "mse", 3, (32, 1))
        Traceback (most recent call last):
        ...
        ValueError: The loss mse compares each of the model's 3 output(s) with a number of its ...
    """
    kind = _loss_kind(loss)
    if kind is None or units is None or not shape or None in shape[1:]:
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


def _without_last_one(sizes: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Keras adds or drops a last axis of 1 where only one side has it."""
    return sizes[:-1] if sizes[-1:] == (1,) else sizes


def _count(side: str, labels: np.ndarray, classes: int | None) -> np.ndarray:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (classes is not None and high >= classes):
        row = int(np.flatnonzero((labels < 0) | (labels >= (classes or high + 1)))[0])
        upper = "" if classes is None else f" to {classes - 1}"
        raise ValueError(
            f"The {side} has the label {int(labels[row])} in row {row}, but the model knows the "
            f"classes 0{upper}. Correct the label, or build the model with more classes."
        )
    return np.bincount(labels.astype(np.int64), minlength=classes or 0)


def check_classes(train: "np.ndarray | None", validation: "np.ndarray | None") -> None:
    """Refuse a single class, and classes that only the validation data has."""
    if train is None:
        return
    seen = np.flatnonzero(train)
    if len(seen) == 1:
        raise ValueError(
            f"Every training label is class {seen[0]}, so that there is nothing to tell apart. "
            "Give rows of at least two classes; shuffle before you split."
        )
    if validation is not None:
        unseen = np.setdiff1d(np.flatnonzero(validation), seen)
        if len(unseen):
            raise ValueError(
                f"The validation data has the class(es) {unseen.tolist()}, of which the training "
                "data has no row. Split with stratify, or leave those rows out."
            )


def num_outputs(model: keras.Model) -> int | None:
    """Return the size of a model's one output vector, or None."""
    outputs = getattr(model, "outputs", None) or []
    if len(outputs) != 1 or len(outputs[0].shape) != 2:
        return None
    return outputs[0].shape[-1]


def num_classes(model: keras.Model, loss: Any) -> int | None:
    """Return how many classes a model tells apart, or None where that is not known."""
    units, kind = num_outputs(model), _loss_kind(loss)
    if units is None or kind not in (_SPARSE, _ONE_HOT, _BINARY):
        return None
    return max(units, 2)


def _loss_name(loss: Any) -> str:
    if isinstance(loss, str):
        return loss
    return str(getattr(_definition(loss), "__name__", ""))


def _definition(loss: Any) -> Any:
    """The class or function that a loss is."""
    return type(loss) if isinstance(loss, keras.losses.Loss) else loss


def _loss_kind(loss: Any) -> str | None:
    name = _loss_name(loss).lower().replace("_", "")
    if "sparsecategorical" in name:
        return _SPARSE
    if "binary" in name and "crossentropy" in name:
        return _BINARY
    if name in _ONE_HOT_LOSSES:
        return _ONE_HOT
    # The user's own may take classes under such a name.
    module = "keras" if isinstance(loss, str) else getattr(_definition(loss), "__module__", "")
    is_keras_own = module.split(".")[0] == "keras"
    return _OF_NUMBERS if name in _LOSSES_OF_NUMBERS and is_keras_own else None


def _wrapped_from_logits(loss: Any) -> bool:
    return bool(getattr(loss, "_fn_kwargs", {}).get("from_logits", False))


def _last_activation(model: keras.Model) -> str | None:
    """The activation of the last layer, if that is a Dense layer's or an Activation's."""
    outputs = getattr(model, "outputs", None) or []
    history = getattr(outputs[0], "_keras_history", None) if len(outputs) == 1 else None
    operation = getattr(history, "operation", None)
    if isinstance(operation, keras.layers.Dense | keras.layers.Activation):
        return getattr(operation.activation, "__name__", None)
    return None
