"""A transformer encoder: every position sees every other."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_finetune.models.arguments import check_positive
from keras_finetune.models.transformer_stack import (
    embed,
    make_token_embedding,
    stack,
    token_inputs,
)


def transformer_encoder(
    vocab_size: int,
    num_layers: int = 4,
    num_heads: int = 4,
    hidden_dim: int = 256,
    intermediate_dim: int | None = None,
    max_length: int = 512,
    *,
    positions: str = "learned",
    position_offset: int = 0,
    num_segments: int = 0,
    norm: str = "layer",
    norm_first: bool = False,
    norm_epsilon: float = 1e-12,
    embedding_norm: bool | None = None,
    activation: str = "gelu",
    use_bias: bool = True,
    num_kv_heads: int | None = None,
    rope_theta: float = 10000.0,
    rope_scaling: Mapping[str, Any] | None = None,
    dropout: float = 0.1,
    attention_dropout: float | None = None,
    dtype: Any = None,
    name: str = "transformer_encoder",
) -> keras.Model:
    """Build a transformer encoder; the defaults are BERT's architecture, small.

    Source: [BERT](https://arxiv.org/abs/1810.04805). With `norm_first=True` and
    `positions="rotary"` it is a newer kind.

    Args:
        vocab_size: Number of token ids.
        num_layers: Number of transformer blocks, `block_0` the lowest.
        num_heads: Number of attention heads; it divides `hidden_dim`.
        hidden_dim: Width of the features.
        intermediate_dim: Width of the feed-forward layers. Default: `4 * hidden_dim`.
        max_length: Number of learned positions: the longest sequence.
        positions: `"learned"`, `"rotary"` (no longest sequence) or `"none"`.
        position_offset: Rows of the position table that come before the first position (2 in
            RoBERTa).
        num_segments: Number of segment ids (2 in BERT, for text pairs). Above 1, the model has a
            third input, `segment_ids`.
        norm: `"layer"` or `"rms"`.
        norm_first: Normalize before each layer rather than after each sum.
        norm_epsilon: Added to the variance.
        embedding_norm: Normalize the embedding. Default: only without `norm_first`.
        activation: `"gelu"` (exact), `"gelu_approximate"`, `"relu"`, `"silu"`, `"swiglu"`,
            `"geglu"`.
        use_bias: Whether projections have biases.
        num_kv_heads: Fewer key and value heads than query heads. Default: `num_heads`.
        rope_theta: Base of rotary positions.
        rope_scaling: As in a Hugging Face config.
        dropout: Rate for the embedding and for the output of each layer.
        attention_dropout: Rate for attention weights. Default: `dropout`.
        dtype: A dtype policy such as `"mixed_bfloat16"`. Default: Keras's global one.
        name: The model's name.

    Returns:
        A functional model from `{"token_ids": (batch, length) int32, "padding_mask":
        (batch, length) bool}` to features (batch, length, hidden_dim). Sequences are padded on
        the right.

    Raises:
        ValueError: An argument is out of range, or its name is not known.

    Example:
        >>> model = transformer_encoder(100, num_layers=2, num_heads=2, hidden_dim=16)
        >>> model.output_shape
        (None, None, 16)
    """
    check_positive(num_layers=num_layers, num_heads=num_heads, hidden_dim=hidden_dim)
    inputs = token_inputs(segments=num_segments > 1)
    token_embedding = make_token_embedding(vocab_size, hidden_dim, dtype=dtype)
    has_embedding_norm = not norm_first if embedding_norm is None else embedding_norm
    x = embed(
        inputs,
        token_embedding,
        positions=positions,
        max_length=max_length,
        position_offset=position_offset,
        num_segments=num_segments,
        norm=norm if has_embedding_norm else None,
        norm_epsilon=norm_epsilon,
        dropout=dropout,
        dtype=dtype,
    )
    x = stack(
        x,
        inputs["padding_mask"],
        num_layers,
        dtype=dtype,
        num_heads=num_heads,
        intermediate_dim=4 * hidden_dim if intermediate_dim is None else intermediate_dim,
        num_kv_heads=num_kv_heads,
        norm=norm,
        norm_first=norm_first,
        norm_epsilon=norm_epsilon,
        activation=activation,
        use_bias=use_bias,
        rope_theta=rope_theta if positions == "rotary" else None,
        rope_scaling=rope_scaling,
        dropout=dropout,
        attention_dropout=dropout if attention_dropout is None else attention_dropout,
    )
    return keras.Model(inputs, x, name=name)
