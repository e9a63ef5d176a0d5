"""An encoder and a decoder that attends to it, for translation and summarisation."""

from typing import Any

import keras

from keras_finetune.models.arguments import check_choice, check_positive
from keras_finetune.models.transformer_stack import (
    embed,
    make_token_embedding,
    stack,
    token_inputs,
)


def encoder_decoder(
    vocab_size: int,
    num_layers: int = 4,
    num_heads: int = 4,
    hidden_dim: int = 256,
    intermediate_dim: int | None = None,
    max_length: int = 512,
    *,
    num_decoder_layers: int | None = None,
    positions: str = "learned",
    position_offset: int = 0,
    norm: str = "layer",
    norm_first: bool = True,
    norm_epsilon: float = 1e-5,
    embedding_norm: bool | None = None,
    activation: str = "gelu",
    use_bias: bool = True,
    num_kv_heads: int | None = None,
    head_dim: int | None = None,
    rope_theta: float = 10000.0,
    num_buckets: int = 32,
    max_distance: int = 128,
    attention_scale: float | None = None,
    dropout: float = 0.1,
    attention_dropout: float | None = None,
    dtype: Any = None,
    name: str = "encoder_decoder",
) -> keras.Model:
    """Build an encoder-decoder transformer with one vocabulary for both sides.

    Sources: [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762);
    [BART](https://arxiv.org/abs/1910.13461) is `norm_first=False`;
    [T5](https://arxiv.org/abs/1910.10683) is `positions="relative", norm="rms", activation="relu",
    use_bias=False, attention_scale=1.0`.

    Args:
        vocab_size: Number of token ids, of source and target together.
        num_layers: Number of encoder blocks, `encoder_block_0` the lowest.
        num_heads: Number of attention heads; it divides `hidden_dim`.
        hidden_dim: Width of the features.
        intermediate_dim: Width of the feed-forward layers. Default: `4 * hidden_dim`.
        max_length: Number of learned positions on each side: the longest sequence.
        num_decoder_layers: Number of decoder blocks, `decoder_block_0` the lowest. Default:
            `num_layers`.
        positions: `"learned"`, or without a longest sequence `"rotary"`, `"relative"` (each side
            has a `RelativePositionBias`) or `"none"`.
        position_offset: Rows of the position tables that come before the first position (2 in
            BART).
        norm: `"layer"` or `"rms"`.
        norm_first: Normalize before each layer rather than after each sum.
        norm_epsilon: Added to the variance.
        embedding_norm: Normalize the embeddings. Default: only without `norm_first`.
        activation: `"gelu"` (exact), `"gelu_approximate"`, `"relu"`, `"silu"`, `"swiglu"`,
            `"geglu"`, `"geglu_approximate"`.
        use_bias: Whether projections have biases.
        num_kv_heads: Fewer key and value heads than query heads. Default: `num_heads`.
        head_dim: Width of a head. Default: `hidden_dim // num_heads`.
        rope_theta: Base of rotary positions.
        num_buckets: Number of buckets of relative positions.
        max_distance: From this distance on, relative positions share one bucket.
        attention_scale: Factor on attention scores. Default: `head_dim**-0.5`.
        dropout: Rate for the embeddings and for the output of each layer.
        attention_dropout: Rate for attention weights. Default: `dropout`.
        dtype: A dtype policy such as `"mixed_bfloat16"`. Default: Keras's global one.
        name: The model's name.

    Returns:
        A functional model from `token_ids`, `padding_mask` (batch, source length),
        `decoder_token_ids` and `decoder_padding_mask` (batch, target length) to the decoder's
        features (batch, target length, hidden_dim). Sequences are padded on the right.

    Raises:
        ValueError: An argument is out of range, or its name is not known.

    Example:
        >>> model = encoder_decoder(100, num_layers=1, num_heads=2, hidden_dim=16)
        >>> sorted(model.input)
        ['decoder_padding_mask', 'decoder_token_ids', 'padding_mask', 'token_ids']
    """
    check_choice("positions", positions, ["learned", "rotary", "relative", "none"])
    num_decoder_layers = num_layers if num_decoder_layers is None else num_decoder_layers
    check_positive(
        num_layers=num_layers,
        num_decoder_layers=num_decoder_layers,
        num_heads=num_heads,
        hidden_dim=hidden_dim,
    )
    has_embedding_norm = not norm_first if embedding_norm is None else embedding_norm
    embedding = {
        "positions": "none" if positions == "relative" else positions,
        "max_length": max_length,
        "position_offset": position_offset,
        "norm": norm if has_embedding_norm else None,
        "norm_epsilon": norm_epsilon,
        "dropout": dropout,
        "dtype": dtype,
    }
    block = {
        "num_heads": num_heads,
        "intermediate_dim": 4 * hidden_dim if intermediate_dim is None else intermediate_dim,
        "num_kv_heads": num_kv_heads,
        "head_dim": head_dim,
        "norm": norm,
        "norm_first": norm_first,
        "norm_epsilon": norm_epsilon,
        "activation": activation,
        "use_bias": use_bias,
        "rope_theta": rope_theta if positions == "rotary" else None,
        "attention_scale": attention_scale,
        "dropout": dropout,
        "attention_dropout": dropout if attention_dropout is None else attention_dropout,
        "dtype": dtype,
    }

    def relative(bidirectional: bool) -> dict[str, Any] | None:
        if positions != "relative":
            return None
        return {
            "num_heads": num_heads,
            "num_buckets": num_buckets,
            "max_distance": max_distance,
            "bidirectional": bidirectional,
        }

    source, target = token_inputs(), token_inputs("decoder_")
    token_embedding = make_token_embedding(vocab_size, hidden_dim, dtype=dtype)

    # Only the decoder's layers carry the prefix of its inputs; the encoder's get one of their own.
    encoder_inputs = {f"encoder_{key}": value for key, value in source.items()}
    encoded = stack(
        embed(encoder_inputs, token_embedding, prefix="encoder_", **embedding),
        source["padding_mask"],
        num_layers,
        prefix="encoder_",
        relative=relative(bidirectional=True),
        **block,
    )
    decoded = stack(
        embed(target, token_embedding, prefix="decoder_", **embedding),
        target["decoder_padding_mask"],
        num_decoder_layers,
        prefix="decoder_",
        encoder_output=encoded,
        encoder_padding_mask=source["padding_mask"],
        relative=relative(bidirectional=False),
        causal=True,
        cross_attention=True,
        **block,
    )
    return keras.Model({**source, **target}, decoded, name=name)
