"""The feed-forward half of a transformer block."""

from typing import Any

import keras

from keras_finetune.models.activation import activation_function
from keras_finetune.models.arguments import check_positive
from keras_finetune.models.fused import product_and_bias
from keras_finetune.models.new_tokens import NewTokens
from keras_finetune.models.torch_kernels import is_torch
from keras_finetune.models.trainable_flags import (
    build_from_config,
    get_build_config,
    hand_down_flag,
)


@keras.saving.register_keras_serializable(package="keras_finetune")
class FeedForward(keras.layers.Layer):
    """Widen, activate and narrow each position by itself.

    A gated activation (`"swiglu"`, `"geglu"`) has a second widening projection, `gate`, whose
    activation multiplies `up`: [Shazeer, 2020](https://arxiv.org/abs/2002.05202).

    Args:
        intermediate_dim: The width between.
        activation: See `activation.activation_function`.
        use_bias: Whether the projections have biases.
        **kwargs: `name`, `dtype`, `trainable`.

    Example:
        >>> import numpy as np
        >>> tuple(FeedForward(32, "swiglu", use_bias=False)(np.ones((2, 5, 8), "float32")).shape)
        (2, 5, 8)
    """

    def __init__(
        self,
        intermediate_dim: int,
        activation: str = "gelu",
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive(intermediate_dim=intermediate_dim)
        self.intermediate_dim = intermediate_dim
        self.activation = activation
        self.use_bias = use_bias
        self._function, self._gated = activation_function(activation)

    def build(self, input_shape: Any) -> None:
        width = input_shape[-1]
        self.up = self._dense("up", self.intermediate_dim, input_shape)
        if self._gated:
            self.gate = self._dense("gate", self.intermediate_dim, input_shape)
        self.down = self._dense("down", width, (*input_shape[:-1], self.intermediate_dim))
        hand_down_flag(self)

    get_build_config = get_build_config
    build_from_config = build_from_config

    def call(self, inputs: Any) -> Any:
        return self.down(self._widened(inputs))

    def step(self, inputs: Any, new: NewTokens) -> Any:
        """Do the same to new tokens.

        Args:
            inputs: (batch, new, width).
            new: Where the tokens stand.

        Returns:
            A tensor of the same shape.
        """
        inputs = new.computed_once(inputs)
        # A kernel of XLA's may add the bias, as in `call`.
        if not (new.transposed or is_torch()):
            return self.down(new.computed_once(self._widened(inputs)))
        activated = self._function(new.product(self.gate if self._gated else self.up, inputs))
        widened = activated * new.product(self.up, inputs) if self._gated else activated
        return new.product(self.down, widened)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "intermediate_dim": self.intermediate_dim,
            "activation": self.activation,
            "use_bias": self.use_bias,
        }

    def _widened(self, inputs: Any) -> Any:
        # The activation's kernel adds the bias as well.
        product, bias = product_and_bias(self.gate if self._gated else self.up, inputs)
        activated = self._function(product, bias)
        return activated * self.up(inputs) if self._gated else activated

    def _dense(self, name: str, width: int, shape: Any) -> keras.layers.Layer:
        layer = keras.layers.Dense(
            width, use_bias=self.use_bias, name=name, dtype=self.dtype_policy
        )
        layer.build(shape)
        return layer
