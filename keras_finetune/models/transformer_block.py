"""The one transformer block: BERT's, GPT-2's, Llama's, BART's, T5's by its parameters."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_finetune.models.arguments import check_rate
from keras_finetune.models.attention import Attention
from keras_finetune.models.feed_forward import FeedForward
from keras_finetune.models.fused import add_and_norm, normalize
from keras_finetune.models.new_tokens import NewTokens
from keras_finetune.models.normalization import make_norm
from keras_finetune.models.trainable_flags import (
    build_from_config,
    get_build_config,
    hand_down_flag,
)
from keras_finetune.models.vocabulary import gather_positions


@keras.saving.register_keras_serializable(package="keras_finetune")
class TransformerBlock(keras.layers.Layer):
    """Attention and feed-forward layers, each with a residual connection and a normalization.

    Args:
        num_heads: Number of query heads.
        intermediate_dim: Width of the feed-forward layer.
        num_kv_heads: Number of key and value heads. Default: `num_heads`.
        head_dim: Width of a head. Default: `hidden_dim // num_heads`.
        norm: `"layer"` or `"rms"`.
        norm_first: Normalize before each layer (GPT-2, Llama) rather than after each sum (BERT).
        norm_epsilon: Added to the variance.
        activation: `"gelu"` (exact), `"gelu_approximate"`, `"relu"`, `"silu"`, `"swiglu"`, ...
        use_bias: Whether projections have biases.
        qkv_bias: Whether those of query, key and value have. Default: `use_bias`.
        qk_norm: Normalize query and key heads by their root mean square (Qwen3).
        causal: A position sees only itself and those before it.
        cross_attention: Add a layer that attends to an encoder's output.
        rope_theta: Base of rotary positions; `None`: positions are not the block's business.
        rope_scaling: As in a Hugging Face config.
        attention_scale: Factor on attention scores. Default: `head_dim**-0.5`; T5 has 1.0.
        dropout: Rate for the output of each layer.
        attention_dropout: Rate for attention weights.
        **kwargs: `name`, `dtype`, `trainable`.

    Call arguments:
        inputs: (batch, length, hidden_dim).
        padding_mask: (batch, length) bool, `True` for real tokens.
        encoder_output: (batch, source length, hidden_dim), with `cross_attention`.
        encoder_padding_mask: (batch, source length) bool.
        position_bias: (1 or batch, num_heads, length, length), added to the scores of
            self-attention; from `RelativePositionBias`.
        positions: (batch, count) int, to compute only these positions of the output: without
            `position_bias`. The output then is (batch, count, hidden_dim).

    Example:
        >>> import numpy as np
        >>> block = TransformerBlock(num_heads=2, intermediate_dim=32)
        >>> tuple(block(np.ones((2, 5, 8), "float32"), padding_mask=np.ones((2, 5), bool)).shape)
        (2, 5, 8)
    """

    def __init__(
        self,
        num_heads: int,
        intermediate_dim: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        norm: str = "layer",
        norm_first: bool = False,
        norm_epsilon: float = 1e-12,
        activation: str = "gelu",
        use_bias: bool = True,
        qkv_bias: bool | None = None,
        qk_norm: bool = False,
        causal: bool = False,
        cross_attention: bool = False,
        rope_theta: float | None = None,
        rope_scaling: Mapping[str, Any] | None = None,
        attention_scale: float | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_rate(dropout=dropout, attention_dropout=attention_dropout)
        self._arguments: dict[str, Any] = {
            "num_heads": num_heads,
            "intermediate_dim": intermediate_dim,
            "num_kv_heads": num_kv_heads,
            "head_dim": head_dim,
            "norm": norm,
            "norm_first": norm_first,
            "norm_epsilon": norm_epsilon,
            "activation": activation,
            "use_bias": use_bias,
            "qkv_bias": qkv_bias,
            "qk_norm": qk_norm,
            "causal": causal,
            "cross_attention": cross_attention,
            "rope_theta": rope_theta,
            "rope_scaling": dict(rope_scaling) if rope_scaling else None,
            "attention_scale": attention_scale,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
        }
        self.norm_first = norm_first
        self.causal = causal
        self.cross_attention = cross_attention
        heads = {
            "num_heads": num_heads,
            "num_kv_heads": num_kv_heads,
            "head_dim": head_dim,
            "use_bias": use_bias,
            "qkv_bias": qkv_bias,
            "qk_norm_epsilon": norm_epsilon if qk_norm else None,
            "scale": attention_scale,
            "dropout": attention_dropout,
            "dtype": self.dtype_policy,
        }
        self.attention = Attention(
            causal=causal,
            rope_theta=rope_theta,
            rope_scaling=rope_scaling,
            name="attention",
            **heads,
        )
        self.attention_norm = self._norm("attention_norm")
        if cross_attention:
            self.encoder_attention = Attention(
                cross_attention=True, name="encoder_attention", **heads
            )
            self.encoder_attention_norm = self._norm("encoder_attention_norm")
        self.feed_forward = FeedForward(
            intermediate_dim, activation, use_bias, name="feed_forward", dtype=self.dtype_policy
        )
        self.feed_forward_norm = self._norm("feed_forward_norm")
        self.dropout = keras.layers.Dropout(dropout, name="dropout", dtype=self.dtype_policy)

    def build(self, inputs_shape: Any, encoder_output_shape: Any = None) -> None:
        self.attention.build(inputs_shape)
        self.attention_norm.build(inputs_shape)
        if self.cross_attention:
            self.encoder_attention.build(inputs_shape, encoder_output_shape)
            self.encoder_attention_norm.build(inputs_shape)
        self.feed_forward.build(inputs_shape)
        self.feed_forward_norm.build(inputs_shape)
        hand_down_flag(self)

    get_build_config = get_build_config
    build_from_config = build_from_config

    def call(
        self,
        inputs: Any,
        padding_mask: Any = None,
        encoder_output: Any = None,
        encoder_padding_mask: Any = None,
        position_bias: Any = None,
        training: bool | None = None,
        *,
        positions: Any = None,
    ) -> Any:
        def attend(x: Any) -> Any:
            return self.attention(
                x,
                padding_mask,
                position_bias=position_bias,
                positions=positions,
                training=training,
            )

        def attend_to_encoder(x: Any) -> Any:
            return self.encoder_attention(
                x, encoder_padding_mask, encoder_output, training=training
            )

        layers = attend, attend_to_encoder, self.feed_forward
        return self._run(inputs, *layers, training, positions)

    def start(self, batch: Any, capacity: Any, encoder_output: Any = None) -> dict[str, Any]:
        """Make what `step` keeps of earlier tokens, with nothing in it.

        Args:
            batch: int, number of rows.
            capacity: int, columns that there must be room for.
            encoder_output: (batch, source length, hidden_dim), with `cross_attention`.

        Returns:
            Tensors by name.
        """
        kept = {name: self.attention.room(batch, capacity) for name in ("keys", "values")}
        if self.cross_attention:
            keys, values = self.encoder_attention.keys_and_values(encoder_output)
            kept |= {"encoder_keys": keys, "encoder_values": values}
        return kept

    def step(self, inputs: Any, kept: dict[str, Any], new: NewTokens) -> tuple[Any, dict[str, Any]]:
        """Run the block on new tokens, which see earlier ones through what was kept of them.

        Args:
            inputs: (batch, new, hidden_dim).
            kept: From `start`, or from the step before.
            new: Where the tokens stand.

        Returns:
            The outputs, and what is to be written to `kept`: the keys and values of the new tokens.
        """
        found: dict[str, Any] = {}

        def attend(x: Any) -> Any:
            x, found["keys"], found["values"] = self.attention.step(
                x, kept["keys"], kept["values"], new
            )
            return x

        def attend_to_encoder(x: Any) -> Any:
            return self.encoder_attention.step_to_encoder(
                x, kept["encoder_keys"], kept["encoder_values"], new
            )

        def feed_forward(x: Any) -> Any:
            return self.feed_forward.step(x, new)

        return self._run(inputs, attend, attend_to_encoder, feed_forward, False), found

    def _run(
        self,
        x: Any,
        attend: Callable[[Any], Any],
        attend_to_encoder: Callable[[Any], Any],
        feed_forward: Callable[[Any], Any],
        training: bool | None,
        positions: Any = None,
    ) -> Any:
        layers = [(attend, self.attention_norm)]
        if self.cross_attention:
            layers.append((attend_to_encoder, self.encoder_attention_norm))
        layers.append((feed_forward, self.feed_forward_norm))
        for layer, norm in layers:
            new = layer(normalize(norm, x) if self.norm_first else x)
            if positions is not None and layer is attend:
                x = gather_positions(x, positions)
            x = add_and_norm(x, new, self.dropout, None if self.norm_first else norm, training)
        return x

    def compute_output_spec(self, inputs: Any, *_: Any, positions: Any = None, **__: Any) -> Any:
        shape = self.compute_output_shape(inputs.shape)
        if positions is not None:
            shape = (shape[0], positions.shape[1], *shape[2:])
        return keras.KerasTensor(shape, self.compute_dtype)

    def compute_output_shape(self, inputs_shape: Any) -> Any:
        return inputs_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._arguments}

    def _norm(self, name: str) -> keras.layers.Layer:
        kind, epsilon = self._arguments["norm"], self._arguments["norm_epsilon"]
        return make_norm(kind, epsilon, name=name, dtype=self.dtype_policy)
