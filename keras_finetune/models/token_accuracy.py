"""Accuracy of tokens, each of which counts as much as any other."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_finetune")
class TokenAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """Share of the tokens that a model finds, by their weights.

    Keras averages over the positions of a row before it adds rows up, so that a token in a wide
    batch counts less than one in a narrow batch; here they are rows of their own.

    Args:
        name: str.
        dtype: dtype of the sums.

    Example:
        >>> import numpy as np
        >>> accuracy = TokenAccuracy()
        >>> accuracy.update_state(np.array([[1]]), np.array([[[0.0, 1.0]]]))
        >>> accuracy.update_state(np.array([[0, 0, 1]]), np.array([[[0.0, 1.0]] * 3]))
        >>> float(accuracy.result())
        0.5
    """

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Count more tokens.

        Args:
            y_true: (batch, length) int, token ids.
            y_pred: (batch, length, vocab_size), scores.
            sample_weight: (batch, length) or (batch, 1), or None where all count.
        """
        rows = ops.reshape(y_pred, (-1, ops.shape(y_pred)[-1]))
        if sample_weight is not None:
            sample_weight = ops.reshape(ops.broadcast_to(sample_weight, ops.shape(y_true)), (-1,))
        return super().update_state(ops.reshape(y_true, (-1,)), rows, sample_weight)
