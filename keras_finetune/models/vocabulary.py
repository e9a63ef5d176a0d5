"""From features to scores of the vocabulary: at chosen positions, tied or not, with a bias."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_finetune")
class GatherPositions(keras.layers.Layer):
    """Take the vectors at given positions of each sequence.

    Call arguments:
        inputs: (batch, length, width).
        positions: (batch, count) int.

    Example:
        >>> import numpy as np
        >>> x = np.arange(6.0).reshape(1, 3, 2)
        >>> GatherPositions()(x, np.array([[2]])).numpy().tolist()
        [[[4.0, 5.0]]]
    """

    def build(self, inputs_shape: Any) -> None:
        pass

    def call(self, inputs: Any, positions: Any) -> Any:
        return gather_positions(inputs, positions)

    def compute_output_shape(self, inputs_shape: Any, positions_shape: Any) -> Any:
        return (*positions_shape, inputs_shape[-1])


def gather_positions(inputs: Any, positions: Any) -> Any:
    """Take the vectors at given positions of each sequence.

    Args:
        inputs: (batch, length, width).
        positions: (batch, count) int.

    Returns:
        (batch, count, width), in the dtype of the inputs.
    """
    taken = take_positions(inputs, positions)
    return ops.reshape(taken, (-1, ops.shape(positions)[1], ops.shape(inputs)[2]))


def take_positions(inputs: Any, positions: Any) -> Any:
    """Take the vectors at given positions of each sequence, all in one list.

    Args:
        inputs: (batch, length, width).
        positions: (batch, count) int.

    Returns:
        (batch * count, width), in the dtype of the inputs.
    """
    batch, length, width = ops.shape(inputs)
    rows = ops.cast(positions, "int32") + ops.arange(batch)[:, None] * length
    flat = ops.reshape(inputs, (-1, width))
    return ops.take(flat, ops.reshape(rows, (-1,)), axis=0)


@keras.saving.register_keras_serializable(package="keras_finetune")
class VocabularyBias(keras.layers.Layer):
    """Add a learned number to the score of each token.

    Example:
        >>> import numpy as np
        >>> tuple(VocabularyBias()(np.ones((1, 3), "float32")).shape)
        (1, 3)
    """

    def build(self, inputs_shape: Any) -> None:
        self.bias = self.add_weight(name="bias", shape=(inputs_shape[-1],), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        return inputs + ops.cast(self.bias, inputs.dtype)

    def compute_output_shape(self, inputs_shape: Any) -> Any:
        return inputs_shape


def vocabulary_scores(
    backbone: keras.Model, features: Any, *, tied: bool, bias: bool, dtype: Any = None
) -> Any:
    """Project features to one float32 logit for each token of the vocabulary.

    Args:
        backbone: A model with a layer `token_embedding`.
        features: (batch, ..., width).
        tied: Use the embedding matrix itself, transposed; else a matrix of its own.
        bias: Add a bias for each token.
        dtype: The dtype policy of an untied matrix.

    Returns:
        (batch, ..., vocab_size), from the layer `head_logits`.

    Raises:
        ValueError: The backbone has no `token_embedding`, or the widths differ.
    """
    embedding = token_embedding(backbone)
    if tied and embedding.output_dim != features.shape[-1]:
        raise ValueError(
            f"A tied head needs embedding_dim and hidden_dim to be equal. Received: embedding_dim="
            f"{embedding.output_dim}, hidden_dim={features.shape[-1]}. Pass tied=False, or build "
            f"the backbone with embedding_dim={features.shape[-1]}."
        )
    if tied:
        scores = embedding(features, reverse=True)
    else:
        projection = keras.layers.Dense(
            embedding.input_dim, use_bias=False, name="head_projection", dtype=dtype
        )
        scores = projection(features)
    # The product is in the policy's dtype, which is fast; what a loss reads is float32.
    if bias:
        return VocabularyBias(name="head_logits", dtype="float32")(scores)
    return keras.layers.Activation("linear", name="head_logits", dtype="float32")(scores)


def token_embedding(backbone: keras.Model) -> keras.layers.Layer:
    """Return the layer whose vocabulary a head predicts.

    Args:
        backbone: A model with a layer `token_embedding`.

    Returns:
        That layer.

    Raises:
        ValueError: There is none.
    """
    for layer in backbone.layers:
        if layer.name == "token_embedding":
            return layer
    raise ValueError(
        f'The backbone needs a layer named "token_embedding", whose vocabulary is predicted. '
        f"Received a model with the layers {[layer.name for layer in backbone.layers]}."
    )
