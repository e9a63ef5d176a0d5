"""Vectors for sequences of a few tokens."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_finetune.models.arguments import check_positive

# fastText's; a product that leaves 32 bits wraps around, on every backend.
_MULTIPLIER = 116_049_371


@keras.saving.register_keras_serializable(package="keras_finetune")
class NgramEmbedding(keras.layers.Layer):
    """Add to each token's vector the vectors of the n-grams that end at it.

    An n-gram, n tokens in a row, is hashed to a row of one table, so that there is no vocabulary of
    n-grams to learn or to store; n-grams that share a row share a vector. Those that would reach
    beyond the start of the text, or into padding, add nothing.

    Source: [Joulin et al., 2016](https://arxiv.org/abs/1607.01759).

    Args:
        num_buckets: Number of rows of the table.
        ngram_sizes: The lengths of the n-grams in tokens, each at least 2.
        token_dropout: Rate at which whole n-grams are hidden in training.
        initializer: The table's initializer.
        **kwargs: `name`, `dtype`, `trainable`.

    Call arguments:
        inputs: (batch, length, width).
        token_ids: (batch, length) int32.
        padding_mask: (batch, length) int32 or bool; see also `packing`.

    Example:
        >>> import numpy as np
        >>> layer = NgramEmbedding(100, [2, 3])
        >>> tuple(layer(np.zeros((2, 5, 4), "float32"), np.ones((2, 5), "int32")).shape)
        (2, 5, 4)
    """

    def __init__(
        self,
        num_buckets: int,
        ngram_sizes: Sequence[int] = (2,),
        token_dropout: float = 0.0,
        initializer: Any = "uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        ngram_sizes = list(ngram_sizes)
        check_positive(num_buckets=num_buckets)
        for size in ngram_sizes:
            if isinstance(size, bool) or not isinstance(size, int) or size < 2:
                raise ValueError(
                    f"ngram_sizes must be ints of at least 2: single tokens have vectors of their "
                    f"own. Received: ngram_sizes={ngram_sizes}."
                )
        self.num_buckets = num_buckets
        self.ngram_sizes = ngram_sizes
        self.initializer = keras.initializers.get(initializer)
        # One for each size, so that a token's n-grams are hidden independently of each other.
        self.dropouts = [
            keras.layers.Dropout(
                token_dropout, (None, None, 1), name=f"dropout_{size}", dtype=self.dtype_policy
            )
            for size in ngram_sizes
        ]
        self.token_dropout = token_dropout

    def build(
        self, inputs_shape: Any, token_ids_shape: Any = None, padding_mask_shape: Any = None
    ) -> None:
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.num_buckets, inputs_shape[-1]),
            initializer=self.initializer,
        )

    def call(
        self,
        inputs: Any,
        token_ids: Any,
        padding_mask: Any = None,
        training: bool | None = None,
    ) -> Any:
        token_ids = ops.cast(token_ids, "int32")
        mask = ops.ones_like(token_ids) if padding_mask is None else padding_mask
        mask = ops.cast(mask, "int32")
        x = inputs
        for size, dropout in zip(self.ngram_sizes, self.dropouts, strict=True):
            rows, real = ngram_rows(token_ids, mask, size, self.num_buckets)
            vectors = ops.cast(ops.take(self.embeddings, rows, axis=0), x.dtype)
            vectors = vectors * ops.cast(real[:, :, None], x.dtype)
            x = x + dropout(vectors, training=training)
        return x

    def compute_output_shape(
        self, inputs_shape: Any, token_ids_shape: Any = None, padding_mask_shape: Any = None
    ) -> Any:
        return inputs_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_buckets": self.num_buckets,
            "ngram_sizes": list(self.ngram_sizes),
            "token_dropout": self.token_dropout,
            "initializer": keras.initializers.serialize(self.initializer),
        }


def ngram_rows(token_ids: Any, padding_mask: Any, size: int, num_buckets: int) -> tuple[Any, Any]:
    """Hash the n-gram that ends at each token.

    Args:
        token_ids: (batch, length) int32.
        padding_mask: (batch, length) int32, as `packing` describes it.
        size: Tokens of an n-gram.
        num_buckets: Number of rows that they are hashed to.

    Returns:
        The row of each n-gram, (batch, length) int32 from 0 to below `num_buckets`, and whether all
        of its tokens are real and of one text, (batch, length) bool.
    """
    hashed = ops.full_like(token_ids, size)
    real = padding_mask > 0
    for back in range(size - 1, -1, -1):
        hashed = hashed * _MULTIPLIER + _moved(token_ids, back)
        real = real & (_moved(padding_mask, back) == padding_mask)
    # The low bits of a product know only the low bits of its factors.
    hashed = ops.bitwise_xor(hashed, ops.right_shift(hashed, 15))
    return ops.mod(hashed, num_buckets), real


def _moved(x: Any, by: int) -> Any:
    """Move a row's numbers to the right; zeros come in from the left."""
    length = ops.shape(x)[1]
    return ops.pad(x, ((0, 0), (by, 0)))[:, :length]
