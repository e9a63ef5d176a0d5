"""Multi-head attention with grouped keys and values, over one sequence or from one to another."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_finetune.models import packing
from keras_finetune.models.arguments import check_positive, check_rate
from keras_finetune.models.attention_weights import (
    attend,
    attention_weights,
    forbidding,
    visible_weights,
)
from keras_finetune.models.flash_attention import (
    fits_flash_attention,
    flash_attention,
    flash_on_torch,
)
from keras_finetune.models.fused import is_product, normalize
from keras_finetune.models.kept_tokens import attend_from_one, write
from keras_finetune.models.new_tokens import NewTokens
from keras_finetune.models.normalization import make_norm
from keras_finetune.models.rotary import inverse_frequencies, rotary_angles, rotate
from keras_finetune.models.torch_kernels import is_torch
from keras_finetune.models.trainable_flags import (
    build_from_config,
    get_build_config,
    hand_down_flag,
)
from keras_finetune.models.vocabulary import gather_positions


@keras.saving.register_keras_serializable(package="keras_finetune")
class Attention(keras.layers.Layer):
    """Multi-head scaled dot-product attention.

    Query, key and value come from one fused projection (`query_key_value`), or, with
    `cross_attention`, from `query` over the inputs and `key_value` over the encoder's output.
    Fewer `num_kv_heads` than `num_heads` is grouped-query attention: consecutive query heads share
    a key and value head. The softmax is computed in float32.

    Sources: [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762);
    [grouped queries](https://arxiv.org/abs/2305.13245).

    Args:
        num_heads: Number of query heads.
        num_kv_heads: Number of key and value heads; it divides `num_heads`. Default: `num_heads`.
        head_dim: Width of a head. Default: the input's width divided by `num_heads`.
        causal: A position attends only to itself and to those before it.
        cross_attention: Attend to `encoder_output` rather than to the inputs themselves.
        use_bias: Whether the output projection has a bias.
        qkv_bias: Whether the query, key and value projections have one. Default: `use_bias`.
        qk_norm_epsilon: Normalize each query and key head by its root mean square, with this
            epsilon (Qwen3). `None`: do not.
        rope_theta: Base of the rotary positions. `None`: no rotary positions.
        rope_scaling: As in a Hugging Face config; see `rotary.inverse_frequencies`.
        scale: Factor on the scores. Default: `head_dim**-0.5`; T5 has 1.0.
        dropout: Rate at which attention weights are dropped in training.
        **kwargs: `name`, `dtype`, `trainable`.

    Call arguments:
        inputs: (batch, length, hidden_dim).
        padding_mask: (batch, source length), above 0 for real tokens; of the encoder's output with
            `cross_attention`, else of the inputs, and then it may tell texts apart (`packing`).
        encoder_output: (batch, source length, encoder's hidden_dim), with `cross_attention`.
        position_bias: (1 or batch, num_heads, length, source length), added to the scores; from
            `RelativePositionBias`.
        positions: (batch, count) int, to compute only these positions of the output, from all
            keys and values; with neither `cross_attention` nor `position_bias`.

    Example:
        >>> import numpy as np
        >>> layer = Attention(num_heads=4, num_kv_heads=2, causal=True)
        >>> tuple(layer(np.ones((2, 5, 16), "float32")).shape)
        (2, 5, 16)
    """

    def __init__(
        self,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        causal: bool = False,
        cross_attention: bool = False,
        use_bias: bool = True,
        qkv_bias: bool | None = None,
        qk_norm_epsilon: float | None = None,
        rope_theta: float | None = None,
        rope_scaling: Mapping[str, Any] | None = None,
        scale: float | None = None,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        check_positive(num_heads=num_heads, num_kv_heads=num_kv_heads)
        check_rate(attention_dropout=dropout)
        if num_heads % num_kv_heads:
            raise ValueError(
                f"num_kv_heads must divide num_heads. Received: num_heads={num_heads}, "
                f"num_kv_heads={num_kv_heads}."
            )
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim
        self.causal = causal
        self.cross_attention = cross_attention
        self.use_bias = use_bias
        self.qkv_bias = use_bias if qkv_bias is None else qkv_bias
        self.qk_norm_epsilon = qk_norm_epsilon
        self.rope_theta = rope_theta
        self.rope_scaling = dict(rope_scaling) if rope_scaling else None
        self.scale = scale
        self.dropout_rate = dropout

    def build(self, inputs_shape: Any, encoder_output_shape: Any = None) -> None:
        width = inputs_shape[-1]
        if self.head_dim is None and width % self.num_heads:
            raise ValueError(
                f"hidden_dim must be divisible by num_heads (or head_dim be given). "
                f"Received: hidden_dim={width}, num_heads={self.num_heads}."
            )
        self._head_dim = self.head_dim or width // self.num_heads
        self._scale = self._head_dim**-0.5 if self.scale is None else self.scale
        query_width = self.num_heads * self._head_dim
        key_value_width = 2 * self.num_kv_heads * self._head_dim
        if self.cross_attention:
            source_shape = encoder_output_shape or inputs_shape
            self.query = self._dense("query", query_width, self.qkv_bias, inputs_shape)
            self.key_value = self._dense("key_value", key_value_width, self.qkv_bias, source_shape)
        else:
            fused_width = query_width + key_value_width
            self.query_key_value = self._dense(
                "query_key_value", fused_width, self.qkv_bias, inputs_shape
            )
        # Not named `output`: that is a property of every Keras layer.
        self.projection = self._dense("output", width, self.use_bias, (None, None, query_width))
        self.dropout = keras.layers.Dropout(
            self.dropout_rate, name="dropout", dtype=self.dtype_policy
        )
        if self.qk_norm_epsilon is not None:
            head_shape = (None, None, None, self._head_dim)
            self.query_norm = self._qk_norm("query_norm", head_shape)
            self.key_norm = self._qk_norm("key_norm", head_shape)
        if self.rope_theta is not None:
            self._frequencies = inverse_frequencies(
                self._head_dim, self.rope_theta, self.rope_scaling
            )
        hand_down_flag(self)

    get_build_config = get_build_config
    build_from_config = build_from_config

    def call(
        self,
        inputs: Any,
        padding_mask: Any = None,
        encoder_output: Any = None,
        position_bias: Any = None,
        training: bool | None = None,
        *,
        positions: Any = None,
    ) -> Any:
        if positions is not None and (self.cross_attention or position_bias is not None):
            raise ValueError(
                "positions goes with neither cross_attention nor position_bias. Take positions of "
                "the whole output instead."
            )
        if positions is not None:
            return self._call_at(inputs, padding_mask, positions, training)
        query, key, value = self._project(inputs, encoder_output)
        if self.rope_theta is not None:
            length = ops.shape(query)[2]
            if padding_mask is None:
                angles = self._angles(ops.arange(length))
            else:
                angles = self._angles(packing.positions(padding_mask)[:, None])
            query, key = rotate(query, angles), rotate(key, angles)

        scale, packed = self._scale, not self.cross_attention
        drops = training and self.dropout_rate > 0
        if not drops and position_bias is None and fits_flash_attention(query, key, value):
            attended = flash_attention(
                query, key, value, padding_mask, causal=self.causal, packed=packed, scale=scale
            )
            return self.projection(attended)

        def weigh(scores: Any) -> Any:
            return attention_weights(
                scores,
                padding_mask,
                self.dropout,
                scale=scale,
                causal=self.causal,
                packed=packed,
                training=training,
                position_bias=self._by_groups(position_bias),
            )

        return self.projection(attend(query, key, value, weigh))

    def _call_at(
        self, inputs: Any, padding_mask: Any, positions: Any, training: bool | None
    ) -> Any:
        """Compute the output at some positions only."""
        query, key, value = self._project_at(inputs, positions)
        if padding_mask is None:
            padding_mask = ops.ones(ops.shape(inputs)[:2], dtype="int32")
        if self.rope_theta is not None:
            places = packing.positions(padding_mask)
            of_query = ops.take_along_axis(places, positions, axis=1)
            query = rotate(query, self._angles(of_query[:, None]))
            key = rotate(key, self._angles(places[:, None]))
        visible = packing.same_text_at(padding_mask, positions)
        if self.causal:
            columns = ops.arange(ops.shape(inputs)[1], dtype="int32")
            visible = visible & (columns[None, None, :] <= positions[:, :, None])

        def weigh(scores: Any) -> Any:
            return self.dropout(self._visible_weights(scores, visible), training=training)

        return self.projection(attend(query, key, value, weigh))

    def step(self, inputs: Any, keys: Any, values: Any, new: NewTokens) -> tuple[Any, Any, Any]:
        """Attend from new tokens to those before them, whose keys and values were kept.

        Args:
            inputs: (batch, new, hidden_dim).
            keys: (batch, num_kv_heads, capacity, head_dim).
            values: The same shape.
            new: Where the tokens stand; several must be the first ones.

        Returns:
            The outputs, and the keys and values of the new tokens, each (batch, num_kv_heads, new,
            head_dim).
        """
        joined = new.product(self.query_key_value, new.computed_once(inputs))
        query, key, value = self._normalized(*self._parts(joined))
        if self.rope_theta is not None:
            angles = self._angles(new.positions[:, None])
            query, key = rotate(query, angles), rotate(key, angles)
        if is_torch():
            # Written down at once, which is in place there.
            keys, values = write(keys, key, new.slot), write(values, value, new.slot)
            added = forbidding(new.visible[:, None])
            added = added if new.position_bias is None else added + new.position_bias
            attended = flash_on_torch(query, keys, values, added, self._scale)
            return new.product(self.projection, attended), key, value
        bias = self._by_groups(new.position_bias)
        if inputs.shape[1] == 1:
            attended = attend_from_one(
                query,
                key,
                value,
                keys,
                values,
                new.slot,
                lambda x: self._visible_weights(x, new.visible, bias),
            )
        else:
            # Nothing comes before them.
            count = ops.shape(inputs)[1]
            visible = new.visible[:, :, :count]
            bias = None if bias is None else bias[..., :count]
            attended = attend(query, key, value, lambda x: self._visible_weights(x, visible, bias))
        return new.product(self.projection, new.computed_once(attended)), key, value

    def keys_and_values(self, encoder_output: Any) -> tuple[Any, Any]:
        """Project an encoder's output, once for all steps.

        Args:
            encoder_output: (batch, source length, hidden_dim).

        Returns:
            Two tensors of the shape (batch, num_kv_heads, source length, head_dim).
        """
        key, value = self._heads(self.key_value(encoder_output), 2, self.num_kv_heads)
        return self.key_norm(key) if self.qk_norm_epsilon is not None else key, value

    def step_to_encoder(self, inputs: Any, keys: Any, values: Any, new: NewTokens) -> Any:
        """Attend from new tokens to an encoder's output.

        Args:
            inputs: (batch, new, hidden_dim).
            keys: From `keys_and_values`.
            values: From `keys_and_values`.
            new: Has the padding mask of the output.

        Returns:
            (batch, new, hidden_dim).
        """
        (query,) = self._heads(new.product(self.query, inputs), 1, self.num_heads)
        if self.qk_norm_epsilon is not None:
            query = self.query_norm(query)
        mask = new.source_mask
        visible = None if mask is None else ops.cast(mask, "bool")[:, None]
        attended = attend(query, keys, values, lambda x: self._visible_weights(x, visible))
        return new.product(self.projection, attended)

    def room(self, batch: Any, capacity: Any) -> Any:
        """Make what keys, or values, of so many columns will be written to."""
        shape = (batch, self.num_kv_heads, capacity, self._head_dim)
        return ops.zeros(shape, dtype=self.compute_dtype)

    def _visible_weights(self, scores: Any, visible: Any, position_bias: Any = None) -> Any:
        return visible_weights(scores, visible, scale=self._scale, position_bias=position_bias)

    def _angles(self, places: Any) -> tuple[Any, Any]:
        return rotary_angles(places, self._frequencies, self.compute_dtype)

    def _by_groups(self, position_bias: Any) -> Any:
        """Take (batch, num_heads, ...) apart, as `attend` does the scores."""
        if position_bias is None:
            return None
        length, source_length = ops.shape(position_bias)[2:]
        groups = self.num_heads // self.num_kv_heads
        return ops.reshape(position_bias, (-1, self.num_kv_heads, groups, length, source_length))

    def compute_output_spec(self, inputs: Any, *_: Any, positions: Any = None, **__: Any) -> Any:
        shape = self.compute_output_shape(inputs.shape)
        if positions is not None:
            shape = (shape[0], positions.shape[1], *shape[2:])
        return keras.KerasTensor(shape, self.compute_dtype)

    def compute_output_shape(self, inputs_shape: Any) -> Any:
        return inputs_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "num_kv_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "causal": self.causal,
            "cross_attention": self.cross_attention,
            "use_bias": self.use_bias,
            "qkv_bias": self.qkv_bias,
            "qk_norm_epsilon": self.qk_norm_epsilon,
            "rope_theta": self.rope_theta,
            "rope_scaling": self.rope_scaling,
            "scale": self.scale,
            "dropout": self.dropout_rate,
        }

    def _project(self, inputs: Any, encoder_output: Any) -> tuple[Any, Any, Any]:
        """Queries, keys and values, each (batch, heads, length, head_dim)."""
        return self._normalized(*self._split(inputs, encoder_output))

    def _project_at(self, inputs: Any, positions: Any) -> tuple[Any, Any, Any]:
        """The same, queries of some positions only: (batch, heads, count, head_dim)."""
        dense, query_width = self.query_key_value, self.num_heads * self._head_dim
        if is_product(dense):
            kernels = ops.split(dense.kernel, [query_width], axis=-1)
            biases = ops.split(dense.bias, [query_width]) if dense.use_bias else (None, None)
            joined_query = _linear(gather_positions(inputs, positions), kernels[0], biases[0])
            joined_key_value = _linear(inputs, kernels[1], biases[1])
        else:
            of_all, joined_key_value = ops.split(dense(inputs), [query_width], axis=-1)
            joined_query = gather_positions(of_all, positions)
        (query,) = self._heads(joined_query, 1, self.num_heads)
        key, value = self._heads(joined_key_value, 2, self.num_kv_heads)
        return self._normalized(query, key, value)

    def _normalized(self, query: Any, key: Any, value: Any) -> tuple[Any, Any, Any]:
        if self.qk_norm_epsilon is not None:
            query, key = normalize(self.query_norm, query), normalize(self.key_norm, key)
        return query, key, value

    def _split(self, inputs: Any, encoder_output: Any) -> tuple[Any, Any, Any]:
        heads, kv_heads = self.num_heads, self.num_kv_heads
        if self.cross_attention:
            (query,) = self._heads(self.query(inputs), 1, heads)
            key, value = self._heads(self.key_value(encoder_output), 2, kv_heads)
            return query, key, value
        return self._parts(self.query_key_value(inputs))

    def _parts(self, joined: Any) -> tuple[Any, Any, Any]:
        heads, kv_heads = self.num_heads, self.num_kv_heads
        if heads == kv_heads:
            query, key, value = self._heads(joined, 3, heads)
            return query, key, value
        # Split, never slice: the gradient of a slice pads it to the full width again, slowly.
        query_width = heads * self._head_dim
        joined_query, joined_key_value = ops.split(joined, [query_width], axis=-1)
        (query,) = self._heads(joined_query, 1, heads)
        key, value = self._heads(joined_key_value, 2, kv_heads)
        return query, key, value

    def _heads(self, joined: Any, parts: int, heads: int) -> Any:
        """Take (batch, length, parts * heads * head_dim) apart."""
        length = ops.shape(joined)[1]
        if isinstance(length, int) and length == 1:  # Nothing to transpose.
            shape = (-1, heads, 1, self._head_dim)
            return [ops.reshape(x, shape) for x in ops.split(joined, parts, axis=-1)]
        divided = ops.reshape(joined, (-1, length, parts, heads, self._head_dim))
        return ops.unstack(ops.transpose(divided, (2, 0, 3, 1, 4)), parts)

    def _dense(self, name: str, width: int, use_bias: bool, shape: Any) -> keras.layers.Layer:
        layer = keras.layers.Dense(width, use_bias=use_bias, name=name, dtype=self.dtype_policy)
        layer.build(shape)
        return layer

    def _qk_norm(self, name: str, shape: Any) -> keras.layers.Layer:
        layer = make_norm("rms", self.qk_norm_epsilon or 0.0, name=name, dtype=self.dtype_policy)
        layer.build(shape)
        return layer


def _linear(x: Any, kernel: Any, bias: Any) -> Any:
    # Flat: TensorFlow would multiply row by row of the batch.
    product = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), kernel)
    product = product if bias is None else product + bias
    return ops.reshape(product, (-1, ops.shape(x)[1], kernel.shape[-1]))
