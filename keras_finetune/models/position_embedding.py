"""Learned absolute positions."""

from typing import Any

import keras
from keras import ops

from keras_finetune.models.arguments import check_positive


@keras.saving.register_keras_serializable(package="keras_finetune")
class PositionEmbedding(keras.layers.Layer):
    """Add a learned vector for each position to token vectors.

    Positions count from 0 at the left, so that sequences must be padded on the right.

    Args:
        input_dim: The number of positions: the greatest length.
        initializer: The table's initializer.
        **kwargs: `name`, `dtype`, `trainable`.

    Raises:
        ValueError: When called on a sequence that is longer than `input_dim`.

    Example:
        >>> import numpy as np
        >>> tuple(PositionEmbedding(8)(np.zeros((2, 5, 4), "float32")).shape)
        (2, 5, 4)
    """

    def __init__(self, input_dim: int, initializer: Any = "uniform", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_positive(input_dim=input_dim)
        self.input_dim = input_dim
        self.initializer = keras.initializers.get(initializer)

    @property
    def max_length(self) -> int:
        """The greatest length of a sequence."""
        return self.input_dim

    def build(self, input_shape: Any) -> None:
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.input_dim, input_shape[-1]),
            initializer=self.initializer,
        )

    def call(self, inputs: Any) -> Any:
        if inputs.shape[1] is not None and inputs.shape[1] > self.input_dim:
            raise ValueError(
                f"The sequences are {inputs.shape[1]} tokens long, but {self.name!r} has only "
                f"{self.input_dim} positions. Truncate them to max_length={self.input_dim}, or "
                f"build the model with a greater max_length."
            )
        # Not embeddings[:length], which would clamp a length that is too great without a word.
        size = (ops.shape(inputs)[1], self.embeddings.shape[-1])
        return inputs + ops.slice(ops.convert_to_tensor(self.embeddings), (0, 0), size)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        initializer = keras.initializers.serialize(self.initializer)
        return {**super().get_config(), "input_dim": self.input_dim, "initializer": initializer}
