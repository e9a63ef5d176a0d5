"""What every transformer builder is made of: inputs, the embedding below, the blocks above."""

from typing import Any

import keras

from keras_finetune.models.arguments import check_choice, check_positive, check_rate
from keras_finetune.models.normalization import make_norm
from keras_finetune.models.position_embedding import PositionEmbedding
from keras_finetune.models.relative_position_bias import RelativePositionBias
from keras_finetune.models.transformer_block import TransformerBlock

# GPT-2's and BERT's. Keras's default is too wide for a matrix that also makes the logits.
EMBEDDING_STDDEV = 0.02


def token_inputs(prefix: str = "", *, segments: bool = False) -> dict[str, Any]:
    """Make the symbolic inputs of a backbone.

    Args:
        prefix: Put before each name: `"decoder_"` for the second sequence of a pair.
        segments: Whether there are segment ids.

    Returns:
        `token_ids`, `padding_mask` and perhaps `segment_ids`, each (batch, length) int32. A padding
        mask may be given as bool; what else it may say is in `packing`.
    """
    names = ["token_ids", "padding_mask"] + ["segment_ids"] * segments
    return {
        prefix + name: keras.Input((None,), dtype="int32", name=prefix + name) for name in names
    }


def make_token_embedding(
    vocab_size: int, width: int, *, initializer: Any = None, dtype: Any = None
) -> keras.layers.Layer:
    """Make the layer `token_embedding`, which a tied head also calls in reverse.

    Args:
        vocab_size: Number of token ids.
        width: Width of a token's vector.
        initializer: Default: normal with a standard deviation of 0.02.
        dtype: The dtype policy.

    Returns:
        A `keras.layers.ReversibleEmbedding`.
    """
    check_positive(vocab_size=vocab_size)
    return keras.layers.ReversibleEmbedding(
        vocab_size,
        width,
        embeddings_initializer=initializer or _normal(),
        name="token_embedding",
        dtype=dtype,
    )


def embed(
    inputs: dict[str, Any],
    token_embedding: keras.layers.Layer,
    *,
    prefix: str = "",
    positions: str = "learned",
    max_length: int = 512,
    position_offset: int = 0,
    num_segments: int = 0,
    norm: str | None = None,
    norm_epsilon: float = 1e-12,
    dropout: float = 0.0,
    token_dropout: float = 0.0,
    dtype: Any = None,
) -> Any:
    """Turn token ids into vectors that know their positions.

    Args:
        inputs: From `token_inputs`.
        token_embedding: From `make_token_embedding`.
        prefix: Of the inputs' names, and, unless it is empty, of the layers' names.
        positions: `"learned"`, `"rotary"` or `"none"`; only learned ones are added here.
        max_length: Number of learned positions.
        position_offset: Rows of their table before the first position.
        num_segments: Number of segment vectors, 0 for none. A single one is added everywhere.
        norm: Normalize the sum: `"layer"`, `"rms"`, or `None` for not at all.
        norm_epsilon: Of that normalization.
        dropout: Rate for the result.
        token_dropout: Rate at which whole tokens are dropped from the result.
        dtype: The dtype policy.

    Returns:
        A symbolic tensor (batch, length, hidden_dim).
    """
    check_choice("positions", positions, ["learned", "rotary", "none"])
    check_rate(dropout=dropout, token_dropout=token_dropout)
    x = token_embedding(inputs[prefix + "token_ids"])
    if num_segments:
        segment_embedding = keras.layers.Embedding(
            num_segments,
            token_embedding.output_dim,
            embeddings_initializer=_normal(),
            name=prefix + "segment_embedding",
            dtype=dtype,
        )
        add = keras.layers.Add(name=prefix + "embedding_sum", dtype=dtype)
        token_ids = inputs[prefix + "token_ids"]
        single = num_segments == 1
        ids = keras.ops.zeros_like(token_ids) if single else inputs[prefix + "segment_ids"]
        x = add([x, segment_embedding(ids)])
    if positions == "learned":
        check_positive(max_length=max_length)
        x = PositionEmbedding(
            max_length + position_offset,
            _normal(),
            position_offset,
            name=prefix + "position_embedding",
            dtype=dtype,
        )(x, padding_mask=inputs[prefix + "padding_mask"])
    if norm is not None:
        x = make_norm(norm, norm_epsilon, name=prefix + "embedding_norm", dtype=dtype)(x)
    if token_dropout:
        x = keras.layers.Dropout(
            token_dropout, (None, None, 1), name=prefix + "token_dropout", dtype=dtype
        )(x)
    return keras.layers.Dropout(dropout, name=prefix + "embedding_dropout", dtype=dtype)(x)


def stack(
    x: Any,
    padding_mask: Any,
    num_layers: int,
    *,
    prefix: str = "",
    encoder_output: Any = None,
    encoder_padding_mask: Any = None,
    relative: dict[str, Any] | None = None,
    dtype: Any = None,
    **block: Any,
) -> Any:
    """Put transformer blocks on top of each other, and a last normalization if they need one.

    Args:
        x: (batch, length, hidden_dim), from `embed`.
        padding_mask: (batch, length).
        num_layers: How many blocks.
        prefix: Of the layers' names.
        encoder_output: (batch, source length, hidden_dim) for blocks with cross-attention.
        encoder_padding_mask: (batch, source length).
        relative: The arguments of a `RelativePositionBias` for all blocks; None: there is none.
        dtype: The dtype policy.
        **block: The arguments of `TransformerBlock`.

    Returns:
        A symbolic tensor (batch, length, hidden_dim).
    """
    more = {}
    if encoder_output is not None:
        more = {"encoder_output": encoder_output, "encoder_padding_mask": encoder_padding_mask}
    if relative is not None:
        # Of the mask, an input: the embedded tokens would tie it to the frozen part of a model.
        bias = RelativePositionBias(**relative, name=f"{prefix}position_bias", dtype=dtype)
        more["position_bias"] = bias(padding_mask)
    for number in range(num_layers):
        layer = TransformerBlock(**block, name=f"{prefix}block_{number}", dtype=dtype)
        x = layer(x, padding_mask=padding_mask, **more)
    if block["norm_first"]:
        norm = make_norm(block["norm"], block["norm_epsilon"], name=f"{prefix}norm", dtype=dtype)
        x = norm(x)
    return x


def _normal() -> keras.initializers.Initializer:
    return keras.initializers.TruncatedNormal(stddev=EMBEDDING_STDDEV)
