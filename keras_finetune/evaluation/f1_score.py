"""F1 as a Keras metric, right on integer labels."""

from typing import Any

import keras
from keras import ops

AVERAGES = ("macro", "micro", "weighted")


@keras.saving.register_keras_serializable(package="keras_finetune")
class F1Score(keras.metrics.Metric):
    """F1 over all batches so far, from the counts of each class.

    `keras.metrics.F1Score` takes one-hot labels alone; this takes class numbers too. A class that
    neither occurs nor is predicted counts as 0 in the macro mean, as everywhere in this library.

    Args:
        num_classes: int.
        average: `"macro"`, `"micro"` or `"weighted"`.
        multi_label: Whether a row may have several labels; they are then 0 and 1, (batch, classes).
        threshold: float, score above which a label is given if `multi_label`; 0 is right for
            logits, 0.5 for probabilities.
        name: str.
        dtype: dtype of the counts.

    Example:
        >>> metric = F1Score(2)
        >>> metric.update_state([0, 0, 1, 1], [[2.0, 1.0], [0.0, 1.0], [0.0, 3.0], [1.0, 2.0]])
        >>> round(float(metric.result()), 3)
        0.733
    """

    def __init__(
        self,
        num_classes: int,
        *,
        average: str = "macro",
        multi_label: bool = False,
        threshold: float = 0.0,
        name: str = "f1",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        if average not in AVERAGES:
            raise ValueError(f"average must be one of {AVERAGES}. Received: {average!r}")
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1. Received: {num_classes!r}")
        self.num_classes = num_classes
        self.average = average
        self.multi_label = multi_label
        self.threshold = threshold
        self._hits, self._predicted, self._support = (
            self.add_weight(shape=(num_classes,), initializer="zeros", name=each)
            for each in ("hits", "predicted", "support")
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch.

        Args:
            y_true: (batch,) class numbers, or (batch, classes) of 0 and 1.
            y_pred: (batch, classes) scores.
            sample_weight: (batch,) weight of each row, or None.
        """
        y_pred = ops.convert_to_tensor(y_pred)
        y_true = ops.convert_to_tensor(y_true)
        if self.multi_label:
            given = ops.cast(y_true, self.dtype)
            said = ops.cast(y_pred > self.threshold, self.dtype)
        else:
            if len(y_true.shape) == 2 and y_true.shape[-1] == self.num_classes > 1:
                y_true = ops.argmax(y_true, axis=-1)
            numbers = ops.cast(ops.reshape(y_true, (-1,)), "int32")
            given = ops.one_hot(numbers, self.num_classes, dtype=self.dtype)
            best = ops.argmax(y_pred, axis=-1)
            said = ops.one_hot(best, self.num_classes, dtype=self.dtype)
        weight = 1.0
        if sample_weight is not None:
            weight = ops.reshape(ops.cast(sample_weight, self.dtype), (-1, 1))
        self._hits.assign_add(ops.sum(given * said * weight, axis=0))
        self._predicted.assign_add(ops.sum(said * weight, axis=0))
        self._support.assign_add(ops.sum(given * weight, axis=0))

    def result(self) -> Any:
        """Return the F1 so far, a scalar."""
        hits, predicted, support = (
            ops.convert_to_tensor(v) for v in (self._hits, self._predicted, self._support)
        )
        if self.average == "micro":
            return _share(2 * ops.sum(hits), ops.sum(predicted) + ops.sum(support))
        scores = _share(2 * hits, predicted + support)
        if self.average == "macro":
            return ops.mean(scores)
        return _share(ops.sum(scores * support), ops.sum(support))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "average": self.average,
            "multi_label": self.multi_label,
            "threshold": self.threshold,
        }


def _share(part: Any, whole: Any) -> Any:
    return ops.divide_no_nan(part, whole)
