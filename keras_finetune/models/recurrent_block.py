"""An LSTM over right-padded sequences, in one direction or both."""

from typing import Any

import keras
from keras import ops

from keras_finetune.models.arguments import check_positive, check_rate
from keras_finetune.models.fused_lstm import run_lstm
from keras_finetune.models.trainable_flags import (
    build_from_config,
    get_build_config,
    hand_down_flag,
)


@keras.saving.register_keras_serializable(package="keras_finetune")
class RecurrentBlock(keras.layers.Layer):
    """An LSTM whose outputs at real tokens do not depend on the padding.

    Reading forwards, the padding on the right comes after every real token and needs no mask.
    Reading backwards, each sequence is first reversed within its own length, so that the padding
    comes last there too. So neither direction needs Keras's masking, which costs time at every
    step on a CPU and refuses rows without tokens on a GPU.

    Source: [Hochreiter and Schmidhuber, 1997](https://doi.org/10.1162/neco.1997.9.8.1735).

    Args:
        units: Width of the output, even if bidirectional: each direction gives half of it.
        bidirectional: Also read backwards.
        dropout: Rate for the output.
        **kwargs: `name`, `dtype`, `trainable`.

    Call arguments:
        inputs: (batch, length, width).
        padding_mask: (batch, length) bool, `True` for real tokens, those at the left.

    Example:
        >>> import numpy as np
        >>> block = RecurrentBlock(8, bidirectional=True)
        >>> tuple(block(np.ones((2, 5, 4), "float32"), np.ones((2, 5), bool)).shape)
        (2, 5, 8)
    """

    def __init__(
        self, units: int, bidirectional: bool = False, dropout: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_positive(hidden_dim=units)
        check_rate(dropout=dropout)
        if bidirectional and units % 2:
            raise ValueError(
                f"A bidirectional LSTM gives half of hidden_dim to each direction, so that it must "
                f"be even. Received: hidden_dim={units}."
            )
        self.units = units
        self.bidirectional = bidirectional
        self.causal = not bidirectional
        each = units // 2 if bidirectional else units
        self.forward_lstm = self._lstm("forward_lstm", each)
        if bidirectional:
            self.backward_lstm = self._lstm("backward_lstm", each)
        self.dropout = keras.layers.Dropout(dropout, name="dropout", dtype=self.dtype_policy)

    def build(self, inputs_shape: Any) -> None:
        self.forward_lstm.build(inputs_shape)
        if self.bidirectional:
            self.backward_lstm.build(inputs_shape)
        hand_down_flag(self)

    get_build_config = get_build_config
    build_from_config = build_from_config

    def call(self, inputs: Any, padding_mask: Any = None, training: bool | None = None) -> Any:
        outputs = run_lstm(self.forward_lstm, inputs, training)
        if self.bidirectional:
            order = _reversed_order(inputs, padding_mask)
            backward = run_lstm(self.backward_lstm, _reorder(inputs, order), training)
            outputs = ops.concatenate([outputs, _reorder(backward, order)], axis=-1)
        return self.dropout(outputs, training=training)

    def start(self, batch: Any) -> dict[str, Any]:
        """Make the state before the first token, for an LSTM that reads forwards.

        Args:
            batch: int, number of rows.

        Returns:
            The output and the carried cell, each (batch, units).
        """
        zeros = ops.zeros((batch, self.units), dtype=self.compute_dtype)
        return {"output": zeros, "carry": zeros}

    def step(self, inputs: Any, kept: dict[str, Any], real: Any) -> tuple[Any, dict[str, Any]]:
        """Read new tokens on from a state.

        Args:
            inputs: (batch, new, width).
            kept: From `start`, or from the step before.
            real: (batch, new) bool; what is not leaves the state as it is.

        Returns:
            The outputs, and the state after them.
        """
        state = [kept["output"], kept["carry"]]
        _, outputs, state = self.forward_lstm.inner_loop(inputs, state, mask=real)
        return outputs, {"output": state[0], "carry": state[1]}

    def compute_output_shape(self, inputs_shape: Any) -> Any:
        return (*inputs_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "bidirectional": self.bidirectional,
            "dropout": self.dropout.rate,
        }

    def _lstm(self, name: str, units: int) -> keras.layers.Layer:
        return keras.layers.LSTM(units, return_sequences=True, name=name, dtype=self.dtype_policy)


def _reversed_order(x: Any, padding_mask: Any) -> Any:
    """Row numbers, in the flattened batch, of each sequence reversed within its length."""
    batch, length = ops.shape(x)[0], ops.shape(x)[1]
    positions = ops.arange(length)[None, :]
    if padding_mask is None:
        lengths = ops.full((batch, 1), length, dtype="int32")
    else:
        lengths = ops.sum(ops.cast(ops.cast(padding_mask, "bool"), "int32"), axis=1, keepdims=True)
    order = ops.where(positions < lengths, lengths - 1 - positions, positions)
    return order + ops.arange(batch)[:, None] * length


def _reorder(x: Any, order: Any) -> Any:
    # One flat gather: the gradient of ops.take_along_axis is several times slower on TensorFlow.
    shape = ops.shape(x)
    flat = ops.reshape(x, (-1, x.shape[-1]))
    return ops.reshape(ops.take(flat, ops.reshape(order, (-1,)), axis=0), shape)
