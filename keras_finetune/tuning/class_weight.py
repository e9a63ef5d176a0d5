"""Class weights that make rare classes count as much as frequent ones."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np


def balanced_class_weight(labels: Any, num_classes: int | None = None) -> dict[int, float]:
    """Weigh each class by the inverse of its frequency.

    The weight of class c is n / (k * n_c), for n rows, k classes that occur and n_c rows of c
    (King and Zeng 2001, https://doi.org/10.1093/oxfordjournals.pan.a004868), so that the mean
    weight of a row is 1.

    Args:
        labels: (rows,) integers, or (rows, classes) one-hot. Negative ones do not count.
        num_classes: int, classes there are, if more than occur; one that does not occur weighs 1.

    Returns:
        A dict from class to weight, as `keras.Model.fit(class_weight=...)` takes it.

    Raises:
        ValueError: There are no labels, or rows have several.

    Example:
        >>> balanced_class_weight([0, 0, 0, 1])
        {0: 0.6666666666666666, 1: 2.0}
    """
    labels = np.asarray(labels)
    if labels.ndim > 1:
        labels = labels.reshape(len(labels), -1)
        if labels.shape[1] > 1 and ((labels > 0.5).sum(axis=1) > 1).any():
            raise ValueError(
                "Balanced class weights are for rows of one class each. Received labels where rows "
                "have several. Weigh rows by sample_weight instead."
            )
        labels = labels[:, 0] if labels.shape[1] == 1 else labels.argmax(axis=1)
    labels = labels[labels >= 0]  # Negative ones are those that a loss ignores.
    if labels.size == 0:
        raise ValueError("class_weight='balanced' needs labels. Received none.")
    counts = np.bincount(labels.astype(np.int64), minlength=num_classes or 0)
    return weights_from_counts(counts)


def weights_from_counts(counts: Any) -> dict[int, float]:
    """Turn rows per class into weights; see `balanced_class_weight`."""
    counts = np.asarray(counts)
    present = counts > 0
    total, classes = counts.sum(), present.sum()
    return {
        label: float(total / (classes * count)) if count else 1.0
        for label, count in enumerate(counts.tolist())
    }


def only_output(y: Any) -> Any:
    """Take the labels out of a list of one output's, in which Keras refuses class weights.

    Example:
        >>> only_output([np.array([0, 1])]).tolist()
        [0, 1]
    """
    return y[0] if isinstance(y, list | tuple) and len(y) == 1 and np.ndim(y[0]) else y


def resolve_class_weight(
    class_weight: "Mapping[int, float] | str | None",
    x: Any,
    y: Any,
    num_classes: int | None = None,
) -> "dict[int, float] | None":
    """Turn what `fit` was given as `class_weight` into what Keras takes.

    Args:
        class_weight: A dict from class to weight, `"balanced"`, or None.
        x: What goes into `fit`; data sets of `keras_finetune.tasks` know their `label_counts`.
        y: Labels, if `x` is arrays.
        num_classes: int, classes that the model knows; None if that is not known.
    """
    if class_weight is None:
        return None
    if isinstance(class_weight, Mapping):
        return _checked_weights(class_weight, num_classes)
    if not isinstance(class_weight, str) or class_weight != "balanced":
        raise ValueError(
            'class_weight must be a dict from class to weight, or "balanced". '
            f"Received: {class_weight!r}"
        )
    counts = getattr(x, "label_counts", None)
    if counts is not None:
        return weights_from_counts(counts)
    if y is None:
        raise ValueError(
            "class_weight='balanced' needs to know how often each class occurs, which this data "
            "set does not say. Where each row has one class, give "
            "keras_finetune.tuning.balanced_class_weight(labels)."
        )
    return balanced_class_weight(y)


def _checked_weights(class_weight: Mapping[Any, Any], num_classes: int | None) -> dict[int, float]:
    """Refuse classes that there are not, which Keras leaves aside, and weights that are none."""
    upper = "" if num_classes is None else f" to {num_classes - 1}"
    for label, weight in class_weight.items():
        number = float(label) if isinstance(label, Real) else -1.0
        if not number.is_integer() or not 0 <= number < (num_classes or math.inf):
            raise ValueError(
                f"class_weight must be a dict from class, an int from 0{upper}, to weight. "
                f"Received the class {label!r}."
            )
        if not isinstance(weight, Real) or not 0 <= float(weight) < math.inf:
            raise ValueError(
                "A class weight must be a number of at least 0. Received: "
                f"class_weight={{{label!r}: {weight!r}, ...}}."
            )
    # Keras reads a class that is left out as 1 from arrays, and fails on it from a data set.
    others = dict.fromkeys(range(num_classes or 0), 1.0)
    found = others | {int(label): float(weight) for label, weight in class_weight.items()}
    if found and not any(found.values()):
        raise ValueError(
            f"class_weight is 0 for every class, so that nothing would count. Received: {found}."
        )
    return found
