"""Cross-entropy with smoothed labels, from integer labels."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_finetune")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy in which the right token has a little less than all of the probability.

    The rest is shared by the whole vocabulary, which keeps a model from being too sure of itself.
    Equal to `keras.losses.CategoricalCrossentropy(label_smoothing=...)` on one-hot labels, which
    this one never makes: they would be as large as the logits.

    Source: [Szegedy et al., 2015](https://arxiv.org/abs/1512.00567).

    Args:
        label_smoothing: float from 0 to below 1, the share of the whole vocabulary.
        reduction: As in every Keras loss.
        name: str.
        dtype: dtype of the computation.

    Call arguments:
        y_true: (batch, length) int, token ids.
        y_pred: (batch, length, vocab_size) float, logits.

    Raises:
        ValueError: `label_smoothing` is out of range.

    Example:
        >>> import numpy as np
        >>> loss = SmoothedCrossentropy(0.1)
        >>> round(float(loss(np.array([[0]]), np.array([[[0.0, 0.0]]]))), 4)
        0.6931
    """

    def __init__(
        self,
        label_smoothing: float = 0.1,
        reduction: str = "sum_over_batch_size",
        name: str = "smoothed_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        check_label_smoothing(label_smoothing)
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each token, (batch, length)."""
        right = ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
        # The mean of -log p over the vocabulary; log p is a logit minus log-sum-exp.
        every = ops.logsumexp(y_pred, axis=-1) - ops.mean(y_pred, axis=-1)
        return (1.0 - self.label_smoothing) * right + self.label_smoothing * every

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


def check_label_smoothing(label_smoothing: float) -> None:
    """Raise a `ValueError` if this is no share from 0 to below 1."""
    if not 0 <= label_smoothing < 1:
        raise ValueError(
            f"label_smoothing must be from 0 to below 1, as 0.1. Received: {label_smoothing!r}"
        )
