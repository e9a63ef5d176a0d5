"""The bag of n-grams: vectors of tokens and of a few tokens in a row, without any layers above."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_finetune.models.arguments import check_positive
from keras_finetune.models.ngram_embedding import NgramEmbedding
from keras_finetune.models.transformer_stack import embed, make_token_embedding, token_inputs


def ngram_encoder(
    vocab_size: int,
    hidden_dim: int = 64,
    *,
    ngram_sizes: Sequence[int] = (2, 3),
    num_buckets: int = 131_072,
    dropout: float = 0.0,
    token_dropout: float = 0.0,
    dtype: Any = None,
    name: str = "ngram_encoder",
) -> keras.Model:
    """Build an embedding of tokens and n-grams.

    Under a head with `pooling="mean"` this is the model of
    [fastText](https://arxiv.org/abs/1607.01759), a linear classifier of n-grams. It trains fast,
    and on a few thousand labelled texts, without a pretrained model, it is often better than
    deeper ones. It wants a higher learning rate than they do, such as 5e-3, and a `token_dropout`
    of about 0.5.

    Args:
        vocab_size: Number of token ids.
        hidden_dim: Width of the vectors.
        ngram_sizes: The lengths of the n-grams, in tokens. Single tokens always count. For texts of
            few tokens, `(2,)` may do better.
        num_buckets: Rows of the table that n-grams are hashed to, whose size is `num_buckets *
            hidden_dim`. Where it is smaller than the number of n-grams, more of them share a row.
        dropout: Rate for single features of the output.
        token_dropout: Rate at which whole tokens and n-grams are hidden in training, which keeps a
            model from learning rare ones by heart
            ([Iyyer et al.](https://aclanthology.org/P15-1162)).
        dtype: A dtype policy such as `"mixed_bfloat16"`. Default: Keras's global one.
        name: The model's name.

    Returns:
        A functional model from `{"token_ids": (batch, length) int32, "padding_mask":
        (batch, length) bool}` to features (batch, length, hidden_dim): at each token the sum of
        its vector and those of the n-grams that end at it.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> ngram_encoder(100, hidden_dim=16, num_buckets=1_000).output_shape
        (None, None, 16)
    """
    check_positive(hidden_dim=hidden_dim)
    inputs = token_inputs()
    token_embedding = make_token_embedding(
        vocab_size, hidden_dim, initializer="uniform", dtype=dtype
    )
    x = embed(
        inputs,
        token_embedding,
        positions="none",
        token_dropout=token_dropout,
        dtype=dtype,
    )
    ngram_embedding = NgramEmbedding(
        num_buckets, ngram_sizes, token_dropout, name="ngram_embedding", dtype=dtype
    )
    x = ngram_embedding(x, inputs["token_ids"], padding_mask=inputs["padding_mask"])
    x = keras.layers.Dropout(dropout, name="dropout", dtype=dtype)(x)
    return keras.Model(inputs, x, name=name)
