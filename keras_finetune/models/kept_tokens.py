"""Keys and values that were kept of earlier tokens: attending to them, and writing to them."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_finetune.device import on_gpu
from keras_finetune.models.new_tokens import with_last_axes_swapped


def attend_from_one(
    query: Any, key: Any, value: Any, keys: Any, values: Any, slot: Any, weigh: Callable[[Any], Any]
) -> Any:
    """Let one new token attend to earlier ones and to itself, without writing its key down first.

    Args:
        query: (batch, heads, 1, head_dim).
        key: (batch, kv heads, 1, head_dim), the token's own.
        value: The shape of `key`.
        keys: (batch, kv heads, capacity, head_dim), those of earlier tokens.
        values: The shape of `keys`.
        slot: int32 scalar, the token's own column.
        weigh: From scores to weights, (batch, kv heads, groups, 1, capacity).

    Returns:
        (batch, 1, heads * head_dim).
    """
    heads, kv_heads, head_dim = query.shape[1], keys.shape[1], query.shape[3]
    by_group = ops.reshape(query, (-1, kv_heads, heads // kv_heads, head_dim))
    # The keys first: XLA would write them down transposed otherwise.
    before = with_last_axes_swapped(ops.matmul(keys, ops.transpose(by_group, (0, 1, 3, 2))))
    own = ops.sum(ops.cast(by_group, "float32") * ops.cast(key, "float32"), axis=-1, keepdims=True)
    own = ops.cast(own, before.dtype)
    is_own = ops.arange(ops.shape(keys)[2], dtype="int32") == slot
    weights = weigh(ops.where(is_own, own, before)[:, :, :, None])[:, :, :, 0]
    attended = ops.matmul(ops.where(is_own, 0, weights), values)
    attended = attended + ops.sum(ops.where(is_own, weights, 0), axis=-1, keepdims=True) * value
    return ops.reshape(attended, (-1, 1, heads * head_dim))


def write(kept: Any, new: Any, slot: Any) -> Any:
    """Write keys, or values, of new tokens behind those of earlier ones.

    On PyTorch, and for one new token on TensorFlow and a CPU, `kept` itself is written to.

    Args:
        kept: (batch, kv heads, capacity, head_dim).
        new: (batch, kv heads, new, head_dim).
        slot: int32 scalar, the column of the first new token.

    Returns:
        A tensor of the shape of `kept`.

    Example:
        >>> kept = write(ops.zeros((1, 1, 3, 1)), ops.ones((1, 1, 1, 1)), ops.array(1, "int32"))
        >>> ops.convert_to_numpy(kept).ravel().tolist()
        [0.0, 1.0, 0.0]
    """
    backend = keras.backend.backend()
    if backend == "torch":
        kept[:, :, int(slot) : int(slot) + new.shape[2]] = new
        return kept
    # Zeros that nobody has written to yet may be a constant: there, a prompt's tokens are copied.
    if backend == "tensorflow" and new.shape[2] == 1 and not on_gpu():
        return _overwritten(kept, new, slot)
    return ops.slice_update(kept, (0, 0, slot, 0), new)


def _overwritten(kept: Any, new: Any, slot: Any) -> Any:
    import tensorflow as tf

    # TensorFlow overwrites whole rows, so that each column of a head is one.
    shape, columns = tf.shape(kept), (-1, kept.shape[3])
    rows = tf.range(shape[0] * shape[1]) * shape[2] + slot
    written = tf.raw_ops.InplaceUpdate(
        x=tf.reshape(kept, columns), i=rows, v=tf.reshape(new, columns)
    )
    return tf.ensure_shape(tf.reshape(written, shape), kept.shape)
