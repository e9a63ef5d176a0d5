"""One vector for a whole sequence, with no part of it from padding."""

from typing import Any

import keras
from keras import ops

from keras_finetune.models.arguments import check_choice

POOLINGS = ("mean", "first", "max", "last")


@keras.saving.register_keras_serializable(package="keras_finetune")
class MaskedPooling(keras.layers.Layer):
    """Pool the vectors of real tokens.

    Args:
        pooling: `"mean"`, `"max"` (of each feature), `"first"` (BERT's `[CLS]`) or `"last"` (the
            last real token, which is what a causal model knows most at).
        **kwargs: `name`, `dtype`, `trainable`.

    Call arguments:
        inputs: (batch, length, width).
        padding_mask: (batch, length) bool, `True` for real tokens. A row without any gives zeros
            (for `"first"`: its first vector).

    Example:
        >>> import numpy as np
        >>> x = np.array([[[1.0], [3.0], [8.0]]])
        >>> float(MaskedPooling("mean")(x, np.array([[True, True, False]]))[0, 0])
        2.0
    """

    def __init__(self, pooling: str = "mean", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_choice("pooling", pooling, POOLINGS)
        self.pooling = pooling

    def build(self, inputs_shape: Any) -> None:
        pass

    def call(self, inputs: Any, padding_mask: Any = None) -> Any:
        if self.pooling == "first":
            return inputs[:, 0]
        if padding_mask is None:
            mask = ops.ones(ops.shape(inputs)[:2], dtype="bool")
        else:
            mask = ops.cast(padding_mask, "bool")
        if self.pooling == "max":
            lowest = -1e9 if self.compute_dtype != "float16" else -6e4
            highest = ops.max(ops.where(mask[:, :, None], inputs, lowest), axis=1)
            return ops.where(ops.any(mask, axis=1)[:, None], highest, 0.0)
        if self.pooling == "last":
            return _last(inputs, mask)
        weights = ops.cast(mask, "float32")
        # In float32, since a sum over a long sequence is inexact in half precision.
        total = ops.einsum("bl,blh->bh", weights, ops.cast(inputs, "float32"))
        count = ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1.0)
        return ops.cast(total / count, self.compute_dtype)

    def compute_output_shape(self, inputs_shape: Any) -> Any:
        return (inputs_shape[0], inputs_shape[2])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pooling": self.pooling}


def _last(inputs: Any, mask: Any) -> Any:
    batch, length = ops.shape(mask)
    last = ops.max(ops.where(mask, ops.arange(length)[None, :], -1), axis=1)
    # One flat gather touches a vector of each row; a product with weights, all of them.
    rows = ops.arange(batch) * length + ops.maximum(last, 0)
    found = ops.take(ops.reshape(inputs, (-1, inputs.shape[-1])), rows, axis=0)
    return ops.where(last[:, None] >= 0, found, ops.zeros_like(found))
