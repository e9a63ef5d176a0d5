"""The convolutional baseline: an embedding and convolutions of several widths."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_finetune.models.arguments import check_positive
from keras_finetune.models.convolution_block import ConvolutionBlock
from keras_finetune.models.transformer_stack import embed, make_token_embedding, token_inputs


def cnn_encoder(
    vocab_size: int,
    hidden_dim: int = 256,
    num_layers: int = 1,
    *,
    embedding_dim: int | None = None,
    kernel_sizes: Sequence[int] = (3, 4, 5),
    activation: str = "relu",
    dropout: float = 0.2,
    token_dropout: float = 0.0,
    dtype: Any = None,
    name: str = "cnn_encoder",
) -> keras.Model:
    """Build convolutions over token embeddings.

    One layer under a head with `pooling="max"` is [Kim's](https://arxiv.org/abs/1408.5882) text
    CNN: fast, and hard to beat on short texts. Layers above the first add to their input.

    Args:
        vocab_size: Number of token ids.
        hidden_dim: Width of the features, shared out among the kernel sizes.
        num_layers: Number of convolution blocks, `block_0` the lowest.
        embedding_dim: Width of the token vectors. Default: `hidden_dim`.
        kernel_sizes: The widths of the convolutions in tokens. Texts may be shorter.
        activation: `"relu"`, `"gelu"`, `"gelu_approximate"`, `"silu"` or `"tanh"`.
        dropout: Rate for the embedding and for the output of each block.
        token_dropout: Rate at which whole tokens are hidden in training, which keeps a model from
            learning single rare words by heart ([Iyyer et al.](https://aclanthology.org/P15-1162)).
        dtype: A dtype policy such as `"mixed_bfloat16"`. Default: Keras's global one.
        name: The model's name.

    Returns:
        A functional model from `{"token_ids": (batch, length) int32, "padding_mask":
        (batch, length) bool}` to features (batch, length, hidden_dim).

    Raises:
        ValueError: An argument is out of range, or its name is not known.

    Example:
        >>> cnn_encoder(100, hidden_dim=16).output_shape
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
        layer = ConvolutionBlock(
            hidden_dim,
            kernel_sizes,
            activation,
            residual=number > 0,
            dropout=dropout,
            name=f"block_{number}",
            dtype=dtype,
        )
        x = layer(x, padding_mask=inputs["padding_mask"])
    return keras.Model(inputs, x, name=name)
