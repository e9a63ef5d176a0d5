"""What a layer must know of tokens that come after others which it has seen before."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import ops

from keras_finetune.models import torch_kernels
from keras_finetune.models.fused import is_op_by_op, is_product
from keras_finetune.models.torch_kernels import is_torch


@dataclass(frozen=True)
class NewTokens:
    """Some new columns of a batch, and what they may see of the columns before them.

    A row's prompt stands at the left, and padding after it; what is generated comes after the
    longest prompt, in the same column for all rows. So a column is not a position: those count a
    row's own tokens only.

    Attributes:
        slot: int32 scalar, the column of the first of the new tokens.
        positions: (batch, new) int32, each token's position in its row.
        visible: (batch, new, capacity) bool, the columns that each may attend to; one at least.
        real: (batch, new) bool, which are no padding.
        source_mask: (batch, source length) int32, the padding mask of an encoder's output, or None.
        position_bias: (batch, num_heads, new, capacity), what relative positions add to the scores
            of self-attention, or None.
        transposed: By the id of a dense layer's kernel, its transpose, (units, width), where
            products are faster with it on the left.
        with_xla: Whether XLA compiles these products.
    """

    slot: Any
    positions: Any
    visible: Any
    real: Any
    source_mask: Any = None
    position_bias: Any = None
    transposed: Mapping[int, Any] = field(default_factory=dict)
    with_xla: bool = False

    def product(self, dense: Any, x: Any) -> Any:
        """Return what a dense layer computes.

        Args:
            dense: A built layer.
            x: (batch, new, width).

        Returns:
            (batch, new, units).

        Example:
            >>> dense = keras.layers.Dense(2, use_bias=False, kernel_initializer="ones")
            >>> dense.build((1, 1, 3))
            >>> tokens = NewTokens(slot=0, positions=None, visible=None, real=None)
            >>> tokens.product(dense, ops.ones((1, 1, 3))).shape == (1, 1, 2)
            True
        """
        if is_torch() and is_product(dense):
            return torch_kernels.linear(dense, x)
        if not is_product(dense) or id(dense.kernel) not in self.transposed:
            return dense(x)
        rows = ops.reshape(ops.cast(x, dense.compute_dtype), (-1, x.shape[-1]))
        kernel, columns = self.transposed[id(dense.kernel)], ops.transpose(rows)
        if self.with_xla:  # It would put the kernel on the right again.
            columns = _as_written(ops.matmul(kernel, _as_written(columns)))
        else:
            columns = ops.matmul(kernel, columns)
        product = ops.reshape(with_last_axes_swapped(columns), (*x.shape[:-1], dense.units))
        return product + ops.cast(dense.bias, product.dtype) if dense.use_bias else product

    def computed_once(self, x: Any) -> Any:
        """Return a tensor as it is, but for one row's token so that XLA computes it only once.

        XLA would compute it anew, with all that leads to it, for each output of a product that
        reads it, but for what it divides; and it does not know that a single token is always real.
        Choosing by columns keeps the vector flat: what came from a tensor of heads would be looked
        up by head for each number that the product multiplies, which takes four times as long.

        Args:
            x: (1, new, width) or (1, width).
        """
        if keras.backend.backend() != "tensorflow" or tuple(self.real.shape) != (1, 1):
            return x
        real = self.real[0, 0]
        columns = ops.arange(x.shape[-1], dtype="int32")
        x = ops.where(columns < x.shape[-1] * ops.cast(real, "int32"), x, 0)
        return x / ops.cast(real, x.dtype)


def with_last_axes_swapped(x: Any) -> Any:
    """Transpose few numbers, such as one new token has.

    Where TensorFlow runs operation by operation they are stacked anew: in bfloat16 that takes a
    tenth of the time of its transpose, which is oneDNN's.

    Args:
        x: (..., rows, columns), few columns.

    Returns:
        (..., columns, rows).

    Example:
        >>> tuple(with_last_axes_swapped(ops.ones((2, 5, 3))).shape)
        (2, 3, 5)
    """
    if is_op_by_op():
        return ops.stack(ops.unstack(x, axis=-1), axis=-2)
    order = range(len(x.shape))
    return ops.transpose(x, (*order[:-2], order[-1], order[-2]))


def _as_written(x: Any) -> Any:
    """Let XLA compute a tensor as it is written, and not as it would rewrite it."""
    # Only what XLA compiles has such an operation.
    from tensorflow.compiler.tf2xla.python import xla

    (same,) = xla.optimization_barrier(x)
    return same
