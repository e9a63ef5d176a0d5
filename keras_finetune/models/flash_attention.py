"""Attention in one kernel that never stores its weights, on a GPU with JAX."""

import functools
from typing import Any

import keras
from keras import ops

from keras_finetune.models.packing import same_text


def fits_flash_attention(query: Any, key: Any) -> bool:
    """Tell whether there is a kernel for these heads: cuDNN's, through JAX.

    Args:
        query: (batch, num_heads, length, head_dim).
        key: (batch, num_kv_heads, source length, head_dim).
    """
    if not has_flash_attention():
        return False
    is_half = keras.backend.standardize_dtype(query.dtype) in ("bfloat16", "float16")
    # With a mask, its gradient needs even lengths.
    is_even = all(isinstance(x.shape[2], int) and x.shape[2] % 2 == 0 for x in (query, key))
    return is_half and is_even and query.shape[3] <= 128 and query.shape[3] % 8 == 0


@functools.cache
def has_flash_attention() -> bool:
    """Tell whether JAX is in use on a GPU whose kernels know bfloat16."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    devices = jax.devices()
    if devices[0].platform != "gpu":
        return False
    return all(float(getattr(x, "compute_capability", 0)) >= 8 for x in devices)


def flash_attention(
    query: Any, key: Any, value: Any, padding_mask: Any, *, causal: bool, packed: bool, scale: float
) -> Any:
    """Average values by the softmax of scores.

    Args:
        query: (batch, num_heads, length, head_dim).
        key: (batch, num_kv_heads, source length, head_dim).
        value: The same shape.
        padding_mask: (batch, source length), or None.
        causal: Whether a position sees only itself and those before it.
        packed: Whether the mask may tell texts in a row apart.
        scale: Factor on the scores.

    Returns:
        (batch, length, num_heads * head_dim).
    """
    mask = None
    if padding_mask is not None:
        mask = ops.cast(padding_mask, "int32")
        visible = same_text(mask) if packed else mask[:, None] > 0
        length, source_length = query.shape[2], key.shape[2]
        shape = (ops.shape(visible)[0], 1, length, source_length)
        mask = ops.broadcast_to(visible[:, None], shape)
    query, key, value = (ops.transpose(x, (0, 2, 1, 3)) for x in (query, key, value))
    attended = ops.dot_product_attention(
        query, key, value, mask=mask, scale=scale, is_causal=causal
    )
    return ops.reshape(attended, (-1, query.shape[1], query.shape[2] * query.shape[3]))
