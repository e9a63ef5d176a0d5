"""Keys and values that were kept of earlier tokens: attending to them, and writing to them."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


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
    before = ops.matmul(keys, ops.transpose(by_group, (0, 1, 3, 2)))
    before = ops.transpose(before, (0, 1, 3, 2))
    own = ops.sum(by_group * key, axis=-1, keepdims=True)
    is_own = ops.arange(ops.shape(keys)[2], dtype="int32") == slot
    weights = weigh(ops.where(is_own, own, before)[:, :, :, None])[:, :, :, 0]
    attended = ops.matmul(ops.where(is_own, 0, weights), values)
    attended = attended + ops.sum(ops.where(is_own, weights, 0), axis=-1, keepdims=True) * value
    return ops.reshape(attended, (-1, 1, heads * head_dim))


def write(kept: Any, new: Any, slot: Any) -> Any:
    """Write keys, or values, of new tokens behind those of earlier ones.

    On PyTorch, and for one new token on TensorFlow, `kept` itself is written to.

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
    # Zeros that nobody has written to yet may be a constant: a prompt's are copied.
    if backend == "tensorflow" and new.shape[2] == 1:
        import tensorflow as tf

        shape = tf.shape(kept)
        rows = tf.range(shape[0] * shape[1]) * shape[2] + slot
        flat, width = (-1, kept.shape[3]), kept.shape
        updated = tf.raw_ops.InplaceUpdate(
            x=tf.reshape(kept, flat), i=rows, v=tf.reshape(new, flat)
        )
        return tf.ensure_shape(tf.reshape(updated, shape), width)
    return ops.slice_update(kept, (0, 0, slot, 0), new)
