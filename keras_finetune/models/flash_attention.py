"""Attention in one kernel that never stores its weights.

It is cuDNN's with JAX on a GPU, and PyTorch's where nothing is learned. PyTorch's has a gradient,
which is left alone: for a row without tokens it is wrong, since it adds the logarithm of their
number to -1e9 in float32, and on a CPU in half precision it is slow for short texts.
"""

import functools
from typing import Any

import keras
from keras import ops

from keras_finetune.models.attention_weights import forbidding, visible_keys
from keras_finetune.models.packing import same_text
from keras_finetune.models.torch_kernels import is_torch


def fits_flash_attention(query: Any, key: Any, value: Any) -> bool:
    """Tell whether there is a kernel for these heads.

    Args:
        query: (batch, num_heads, length, head_dim).
        key: (batch, num_kv_heads, source length, head_dim).
        value: The same shape.
    """
    if is_torch():
        # -1e9 is infinite in float16 and too little in float64 for the average of nothing visible.
        dtype = keras.backend.standardize_dtype(query.dtype)
        return dtype in ("float32", "bfloat16") and not _learns(query, key, value)
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
    if is_torch():
        visible = visible_keys(padding_mask, packed, causal, key.shape[2])
        visible = visible[:, 0] if visible is not None and visible.ndim == 5 else visible
        return flash_on_torch(query, key, value, forbidding(visible), scale)
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


def _learns(*tensors: Any) -> bool:
    import torch

    return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)


def flash_on_torch(query: Any, key: Any, value: Any, added: Any, scale: float) -> Any:
    """Average values by the softmax of scores, in PyTorch's kernel.

    Args:
        query: (batch, num_heads, length, head_dim).
        key: (batch, num_kv_heads, source length, head_dim).
        value: The same shape.
        added: To add to the scores, of a shape that goes with theirs, or None.
        scale: Factor on the scores before that.

    Returns:
        (batch, length, num_heads * head_dim).
    """
    from torch.nn.functional import scaled_dot_product_attention

    attended = scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=None if added is None else added.to(query.dtype),
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return attended.transpose(1, 2).reshape(-1, query.shape[2], query.shape[1] * query.shape[3])
