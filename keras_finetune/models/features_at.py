"""Features at the positions that a head uses, without those of all others."""

from typing import Any

import keras
from keras import ops

from keras_finetune.models.arguments import check_choice
from keras_finetune.models.position_wise import computes_as_known
from keras_finetune.models.transformer_block import TransformerBlock

POSITIONS = ("first", "last")
_NORMS = (keras.layers.LayerNormalization, keras.layers.RMSNormalization)


@keras.saving.register_keras_serializable(package="keras_finetune")
class PooledPosition(keras.layers.Layer):
    """Say where the first or the last real token of each row is.

    Args:
        pooling: `"first"` or `"last"`.
        **kwargs: `name`, `dtype`, `trainable`.

    Call arguments:
        padding_mask: (batch, length), above 0 for real tokens, which begin at the first column.

    Returns:
        (batch, 1) int32; 0 in a row without any.

    Example:
        >>> import numpy as np
        >>> mask = np.array([[1, 1, 0], [1, 1, 1]])
        >>> keras.ops.convert_to_numpy(PooledPosition("last")(mask)).tolist()
        [[1], [2]]
    """

    def __init__(self, pooling: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_choice("pooling", pooling, POSITIONS)
        self.pooling = pooling

    def build(self, padding_mask_shape: Any) -> None:
        pass

    def call(self, padding_mask: Any) -> Any:
        if self.pooling == "first":
            return ops.zeros_like(padding_mask[:, :1], dtype="int32")
        columns = ops.arange(ops.shape(padding_mask)[1], dtype="int32")
        real = ops.cast(padding_mask, "int32") > 0
        return ops.max(ops.where(real, columns[None, :], 0), axis=1, keepdims=True)

    def compute_output_spec(self, padding_mask: Any) -> keras.KerasTensor:
        return keras.KerasTensor((padding_mask.shape[0], 1), dtype="int32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pooling": self.pooling}


def features_at(features: Any, positions: Any) -> Any:
    """Compute features at some positions only, as far as other positions are of no use to them.

    In the topmost transformer block, other positions are needed for keys and values; queries,
    the feed-forward layer and normalizations are computed for these positions alone. That is five
    sixths of a block less.

    Args:
        features: Symbolic (batch, length, hidden_dim), of a backbone.
        positions: Symbolic (batch, count) int32.

    Returns:
        Symbolic (batch, count, hidden_dim); None where the features are not a transformer block's.

    Example:
        >>> from keras_finetune.models import transformer_encoder
        >>> backbone = transformer_encoder(100, num_layers=2, num_heads=2, hidden_dim=16)
        >>> positions = keras.Input((3,), dtype="int32")
        >>> features_at(backbone.output, positions).shape
        (None, 3, 16)
    """
    norms = []
    operation, node = _maker(features)
    while computes_as_known(operation, _NORMS):
        norms.append(operation)
        operation, node = _maker(node.input_tensors[0])
    if not computes_at(operation, node):
        return None
    x = operation(*node.arguments.args, **node.arguments.kwargs, positions=positions)
    for norm in reversed(norms):
        x = norm(x)
    return x


def computes_at(operation: Any, node: Any) -> bool:
    """Tell whether a call can be made for some positions alone: a block's, by `positions`.

    Args:
        operation: What is called.
        node: Keras's record of the call.
    """
    taken = {"position_bias", "positions"}
    return (
        type(operation) is TransformerBlock
        and operation.activity_regularizer is None  # It sums all positions.
        and not taken & set(node.arguments.kwargs)
    )


def _maker(x: Any) -> tuple[Any, Any]:
    """The operation that gave a symbolic tensor, and Keras's record of that call."""
    operation, node_index, _ = x._keras_history
    return operation, operation._inbound_nodes[node_index]
