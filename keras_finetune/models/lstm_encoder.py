"""The recurrent baseline: an embedding and an LSTM."""

from typing import Any

import keras

from keras_finetune.models.arguments import check_positive
from keras_finetune.models.recurrent_block import RecurrentBlock
from keras_finetune.models.transformer_stack import embed, make_token_embedding, token_inputs


def lstm_encoder(
    vocab_size: int,
    hidden_dim: int = 256,
    num_layers: int = 1,
    *,
    embedding_dim: int | None = None,
    bidirectional: bool = False,
    dropout: float = 0.2,
    token_dropout: float = 0.0,
    dtype: Any = None,
    name: str = "lstm_encoder",
) -> keras.Model:
    """Build an LSTM over token embeddings.

    In one direction it can be a language model; in both it reads better for classification.

    Args:
        vocab_size: Number of token ids.
        hidden_dim: Width of the features; of both directions together if bidirectional.
        num_layers: Number of LSTMs on top of each other, `block_0` the lowest.
        embedding_dim: Width of the token vectors. Default: `hidden_dim`, which a tied language
            model needs.
        bidirectional: Also read backwards.
        dropout: Rate for the embedding and for the output of each LSTM.
        token_dropout: Rate at which whole tokens are hidden in training, which keeps a model from
            learning single rare words by heart ([Iyyer et al.](https://aclanthology.org/P15-1162)).
        dtype: A dtype policy such as `"mixed_bfloat16"`. Default: Keras's global one.
        name: The model's name.

    Returns:
        A functional model from `{"token_ids": (batch, length) int32, "padding_mask":
        (batch, length) bool}` to features (batch, length, hidden_dim). Sequences are padded on
        the right.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> lstm_encoder(100, hidden_dim=16, bidirectional=True).output_shape
        (None, None, 16)
    """
    embedding_dim = hidden_dim if embedding_dim is None else embedding_dim
    check_positive(hidden_dim=hidden_dim, num_layers=num_layers, embedding_dim=embedding_dim)
    inputs = token_inputs()
    token_embedding = make_token_embedding(
        vocab_size, embedding_dim, initializer="uniform", dtype=dtype
    )
    x = embed(
        inputs,
        token_embedding,
        positions="none",
        dropout=dropout,
        token_dropout=token_dropout,
        dtype=dtype,
    )
    for number in range(num_layers):
        layer = RecurrentBlock(
            hidden_dim, bidirectional, dropout, name=f"block_{number}", dtype=dtype
        )
        x = layer(x, padding_mask=inputs["padding_mask"])
    return keras.Model(inputs, x, name=name)
