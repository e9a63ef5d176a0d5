"""A transformer decoder: every position sees itself and those before it."""

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


def transformer_decoder(
    vocab_size: int,
    num_layers: int = 4,
    num_heads: int = 4,
    hidden_dim: int = 256,
    intermediate_dim: int | None = None,
    max_length: int = 512,
    *,
    positions: str = "learned",
    norm: str = "layer",
    norm_epsilon: float = 1e-5,
    activation: str = "gelu_approximate",
    use_bias: bool = True,
    qkv_bias: bool | None = None,
    qk_norm: bool = False,
    num_kv_heads: int | None = None,
    head_dim: int | None = None,
    rope_theta: float = 10000.0,
    rope_scaling: Mapping[str, Any] | None = None,
    dropout: float = 0.1,
    attention_dropout: float | None = None,
    dtype: Any = None,
    name: str = "transformer_decoder",
) -> keras.Model:
    """Build a causal transformer with a normalization before each layer and one at the end.

    The defaults are [GPT-2's](https://openai.com/index/better-language-models/) architecture,
    small. [Llama's](https://arxiv.org/abs/2302.13971) is `positions="rotary"`, `norm="rms"`,
    `activation="swiglu"`, `use_bias=False`; Qwen2 adds `qkv_bias=True`, Qwen3 `qk_norm=True`.

    Args:
        vocab_size: Number of token ids.
        num_layers: Number of transformer blocks, `block_0` the lowest.
        num_heads: Number of attention heads.
        hidden_dim: Width of the features.
        intermediate_dim: Width of the feed-forward layers. Default: `4 * hidden_dim`.
        max_length: Number of learned positions: the longest sequence.
        positions: `"learned"`, `"rotary"` (no longest sequence) or `"none"`.
        norm: `"layer"` or `"rms"`.
        norm_epsilon: Added to the variance.
        activation: `"gelu_approximate"`, `"gelu"` (exact), `"relu"`, `"silu"`, `"swiglu"`,
            `"geglu"`.
        use_bias: Whether projections have biases.
        qkv_bias: Whether those of query, key and value have. Default: `use_bias`.
        qk_norm: Normalize each query and key head by its root mean square.
        num_kv_heads: Fewer key and value heads than query heads. Default: `num_heads`.
        head_dim: Width of a head. Default: `hidden_dim // num_heads`.
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
        >>> model = transformer_decoder(100, num_layers=2, num_heads=2, hidden_dim=16)
        >>> model.output_shape
        (None, None, 16)
    """
    check_positive(num_layers=num_layers, num_heads=num_heads, hidden_dim=hidden_dim)
    inputs = token_inputs()
    token_embedding = make_token_embedding(vocab_size, hidden_dim, dtype=dtype)
    x = embed(
        inputs,
        token_embedding,
        positions=positions,
        max_length=max_length,
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
        head_dim=head_dim,
        norm=norm,
        norm_first=True,
        norm_epsilon=norm_epsilon,
        activation=activation,
        use_bias=use_bias,
        qkv_bias=qkv_bias,
        qk_norm=qk_norm,
        causal=True,
        rope_theta=rope_theta if positions == "rotary" else None,
        rope_scaling=rope_scaling,
        dropout=dropout,
        attention_dropout=dropout if attention_dropout is None else attention_dropout,
    )
    return keras.Model(inputs, x, name=name)
