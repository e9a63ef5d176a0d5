"""Parallel convolutions of several widths over one sequence."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_finetune.models.activation import activation_function
from keras_finetune.models.arguments import check_positive, check_rate
from keras_finetune.models.trainable_flags import (
    build_from_config,
    get_build_config,
    hand_down_flag,
)


@keras.saving.register_keras_serializable(package="keras_finetune")
class ConvolutionBlock(keras.layers.Layer):
    """Convolutions of several kernel sizes side by side, their outputs joined.

    Padded positions are set to zero first, which is also what lies beyond the edges of a
    sequence: so the outputs at real tokens do not depend on the padding.

    Source: [Kim, 2014](https://arxiv.org/abs/1408.5882).

    Args:
        filters: Width of the output, shared out evenly among the kernel sizes.
        kernel_sizes: The widths of the convolutions in tokens.
        activation: See `activation.activation_function`; not a gated one.
        residual: Add the inputs to the output; they must be of the same width.
        dropout: Rate for the output.
        **kwargs: `name`, `dtype`, `trainable`.

    Call arguments:
        inputs: (batch, length, width).
        padding_mask: (batch, length) bool, `True` for real tokens.

    Example:
        >>> import numpy as np
        >>> tuple(ConvolutionBlock(8, [3, 4])(np.ones((2, 2, 4), "float32")).shape)
        (2, 2, 8)
    """

    def __init__(
        self,
        filters: int,
        kernel_sizes: Sequence[int] = (3, 4, 5),
        activation: str = "relu",
        residual: bool = False,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        kernel_sizes = list(kernel_sizes)
        for size in kernel_sizes:
            check_positive(kernel_sizes=size)
        check_positive(hidden_dim=filters)
        check_rate(dropout=dropout)
        if not kernel_sizes or filters < len(kernel_sizes):
            raise ValueError(
                f"kernel_sizes must hold at least one size, and hidden_dim at least one filter "
                f"for each. Received: kernel_sizes={kernel_sizes}, hidden_dim={filters}."
            )
        self._function, gated = activation_function(activation)
        if gated:
            raise ValueError(f'A convolution has no gated activation ("{activation}"). Use "relu".')
        self.filters = filters
        self.kernel_sizes = kernel_sizes
        self.activation = activation
        self.residual = residual
        self.causal = False
        each, more = divmod(filters, len(kernel_sizes))
        self.convolutions = [
            keras.layers.Conv1D(
                each + (number < more),
                size,
                padding="same",
                name=f"convolution_{number}",
                dtype=self.dtype_policy,
            )
            for number, size in enumerate(kernel_sizes)
        ]
        self.dropout = keras.layers.Dropout(dropout, name="dropout", dtype=self.dtype_policy)

    def build(self, inputs_shape: Any) -> None:
        if self.residual and inputs_shape[-1] != self.filters:
            raise ValueError(
                f"A residual convolution keeps the width. Received: inputs of width "
                f"{inputs_shape[-1]}, filters={self.filters}."
            )
        for convolution in self.convolutions:
            convolution.build(inputs_shape)
        hand_down_flag(self)

    get_build_config = get_build_config
    build_from_config = build_from_config

    def call(self, inputs: Any, padding_mask: Any = None, training: bool | None = None) -> Any:
        x = inputs
        if padding_mask is not None:
            x = x * ops.cast(ops.cast(ops.expand_dims(padding_mask, -1), "bool"), x.dtype)
        outputs = [convolution(x) for convolution in self.convolutions]
        joined = self._function(ops.concatenate(outputs, axis=-1))
        joined = self.dropout(joined, training=training)
        return inputs + joined if self.residual else joined

    def compute_output_shape(self, inputs_shape: Any) -> Any:
        return (*inputs_shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_sizes": list(self.kernel_sizes),
            "activation": self.activation,
            "residual": self.residual,
            "dropout": self.dropout.rate,
        }
