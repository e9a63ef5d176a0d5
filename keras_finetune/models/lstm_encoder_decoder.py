"""The recurrent baseline for translation and summarisation: LSTMs with attention between them."""

from typing import Any

import keras

from keras_finetune.models.arguments import check_positive
from keras_finetune.models.attention import Attention
from keras_finetune.models.recurrent_block import RecurrentBlock
from keras_finetune.models.transformer_stack import embed, make_token_embedding, token_inputs


def lstm_encoder_decoder(
    vocab_size: int,
    hidden_dim: int = 256,
    num_layers: int = 1,
    embedding_dim: int | None = None,
    *,
    dropout: float = 0.2,
    dtype: Any = None,
    name: str = "lstm_encoder_decoder",
) -> keras.Model:
    """Build an LSTM that reads in both directions, and one that writes and attends to what is read.

    This is the global attention of [Luong et al., 2015](https://arxiv.org/abs/1508.04025): the
    decoder's states look at the encoder's outputs, and what they find is joined to them. Two things
    are left out, so that all positions are computed at once: the input feeding, and handing the
    encoder's last state to the decoder. The source reaches the decoder by attention alone.

    Args:
        vocab_size: Number of token ids, of source and target together.
        hidden_dim: Width of the features; an even number, half of it for each reading direction.
        num_layers: Number of LSTMs on top of each other on each side, `encoder_block_0` and
            `decoder_block_0` the lowest.
        embedding_dim: Width of the token vectors, which both sides share. Default: `hidden_dim`,
            which a tied head needs.
        dropout: Rate for the embeddings and for the output of each layer.
        dtype: A dtype policy such as `"mixed_bfloat16"`. Default: Keras's global one.
        name: The model's name.

    Returns:
        A functional model from `token_ids`, `padding_mask` (batch, source length),
        `decoder_token_ids` and `decoder_padding_mask` (batch, target length) to the decoder's
        features (batch, target length, hidden_dim). Sequences are padded on the right.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> model = lstm_encoder_decoder(100, hidden_dim=16)
        >>> model.output_shape
        (None, None, 16)
    """
    embedding_dim = hidden_dim if embedding_dim is None else embedding_dim
    check_positive(hidden_dim=hidden_dim, num_layers=num_layers, embedding_dim=embedding_dim)
    source, target = token_inputs(), token_inputs("decoder_")
    # As wide as gives a tied head logits of some size, without which learning starts slowly.
    initializer = keras.initializers.RandomNormal(stddev=embedding_dim**-0.5)
    token_embedding = make_token_embedding(
        vocab_size, embedding_dim, initializer=initializer, dtype=dtype
    )
    embedding = {"positions": "none", "dropout": dropout, "dtype": dtype}
    encoder_inputs = {f"encoder_{key}": value for key, value in source.items()}
    encoded = embed(encoder_inputs, token_embedding, prefix="encoder_", **embedding)
    decoded = embed(target, token_embedding, prefix="decoder_", **embedding)
    for number in range(num_layers):
        reader = RecurrentBlock(
            hidden_dim, True, dropout, name=f"encoder_block_{number}", dtype=dtype
        )
        encoded = reader(encoded, padding_mask=source["padding_mask"])
        writer = RecurrentBlock(
            hidden_dim, False, dropout, name=f"decoder_block_{number}", dtype=dtype
        )
        decoded = writer(decoded, padding_mask=target["decoder_padding_mask"])
    attention = Attention(
        1, cross_attention=True, use_bias=False, name="encoder_attention", dtype=dtype
    )
    found = attention(decoded, padding_mask=source["padding_mask"], encoder_output=encoded)
    joined = keras.layers.Concatenate(name="decoder_join", dtype=dtype)([decoded, found])
    project = keras.layers.Dense(
        hidden_dim, activation="tanh", use_bias=False, name="decoder_projection", dtype=dtype
    )
    dropped = keras.layers.Dropout(dropout, name="decoder_dropout", dtype=dtype)
    return keras.Model({**source, **target}, dropped(project(joined)), name=name)
