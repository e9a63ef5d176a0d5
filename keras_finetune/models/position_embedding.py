"""Learned absolute positions."""

from typing import Any

import keras
from keras import ops

from keras_finetune.models.arguments import check_positive
from keras_finetune.models.packing import positions


@keras.saving.register_keras_serializable(package="keras_finetune")
class PositionEmbedding(keras.layers.Layer):
    """Add a learned vector for each position to token vectors.

    Positions count from 0 at the left, so that sequences must be padded on the right; in rows of
    several texts (see `packing`) from the beginning of each.

    Args:
        input_dim: The number of rows of the table.
        initializer: The table's initializer.
        offset: Rows at the start that are no positions (2 in RoBERTa and BART).
        **kwargs: `name`, `dtype`, `trainable`.

    Raises:
        ValueError: When called on a sequence that is longer than `max_length`.

    Example:
        >>> import numpy as np
        >>> tuple(PositionEmbedding(8)(np.zeros((2, 5, 4), "float32")).shape)
        (2, 5, 4)
    """

    def __init__(
        self, input_dim: int, initializer: Any = "uniform", offset: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_positive(input_dim=input_dim, positions=input_dim - offset)
        self.input_dim = input_dim
        self.initializer = keras.initializers.get(initializer)
        self.offset = offset

    @property
    def max_length(self) -> int:
        """The greatest length of a sequence."""
        return self.input_dim - self.offset

    def build(self, inputs_shape: Any, padding_mask_shape: Any = None) -> None:
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.input_dim, inputs_shape[-1]),
            initializer=self.initializer,
        )

    def call(self, inputs: Any, padding_mask: Any = None) -> Any:
        if inputs.shape[1] is not None and inputs.shape[1] > self.max_length:
            raise ValueError(
                f"The sequences are {inputs.shape[1]} tokens long, but {self.name!r} has only "
                f"{self.max_length} positions. Truncate them to max_length={self.max_length}, or "
                f"build the model with a greater max_length."
            )
        if padding_mask is not None:
            return self.step(inputs, positions(padding_mask))
        # Not embeddings[:length], which would clamp a length that is too great without a word.
        size = (ops.shape(inputs)[1], self.embeddings.shape[-1])
        return inputs + ops.slice(ops.convert_to_tensor(self.embeddings), (self.offset, 0), size)

    def step(self, inputs: Any, positions: Any) -> Any:
        """Add the vectors of given positions.

        Args:
            inputs: (batch, length, width).
            positions: (batch, length) int32.

        Returns:
            A tensor of the same shape as the inputs.
        """
        rows = ops.take(self.embeddings, positions + self.offset, axis=0)
        return inputs + ops.cast(rows, inputs.dtype)

    def compute_output_shape(self, inputs_shape: Any, padding_mask_shape: Any = None) -> Any:
        return inputs_shape

    def get_config(self) -> dict[str, Any]:
        initializer = keras.initializers.serialize(self.initializer)
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "initializer": initializer,
            "offset": self.offset,
        }
