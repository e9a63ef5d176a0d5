"""What attention does between its projections: scores, their softmax, averages of values."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_finetune.models import torch_kernels
from keras_finetune.models.fused import drop, dropped, fused, is_fusing, rate_and_seed, sum_of_rows
from keras_finetune.models.packing import same_text
from keras_finetune.models.torch_kernels import is_torch

# Finite, so that a row with nothing to attend to gives an average and not NaN.
FORBIDDEN = -1e9


def attend(query: Any, key: Any, value: Any, weigh: Callable[[Any], Any]) -> Any:
    """Average values by the weights of scores.

    Args:
        query: (batch, heads, length, head_dim).
        key: (batch, kv heads, source length, head_dim); as many consecutive query heads share one
            as there are more of them.
        value: The shape of `key`.
        weigh: From scores to weights, (batch, kv heads, groups, length, source length).

    Returns:
        (batch, length, heads * head_dim).
    """
    heads, kv_heads, head_dim = query.shape[1], key.shape[1], query.shape[3]
    length, source_length = ops.shape(query)[2], ops.shape(key)[2]
    # The query heads that share a key are rows of one matrix.
    groups = heads // kv_heads
    rows = (-1, kv_heads, groups * length, head_dim)
    scores = ops.matmul(ops.reshape(query, rows), ops.transpose(key, (0, 1, 3, 2)))
    weights = weigh(ops.reshape(scores, (-1, kv_heads, groups, length, source_length)))
    rows = (-1, kv_heads, groups * length, source_length)
    attended = ops.matmul(ops.reshape(weights, rows), value)
    by_head = ops.reshape(attended, (-1, heads, length, head_dim))
    return ops.reshape(ops.transpose(by_head, (0, 2, 1, 3)), (-1, length, heads * head_dim))


def visible_weights(scores: Any, visible: Any, *, scale: float, position_bias: Any = None) -> Any:
    """Compute the softmax of attention scores in float32, over what is visible.

    Args:
        scores: (batch, kv heads, groups, length, source length).
        visible: (batch, 1 or length, source length) bool, or None: all is.
        scale: Factor on the scores.
        position_bias: Of the shape of the scores, to add to them, or None.

    Returns:
        A tensor of the shape and dtype of the scores.
    """
    if is_torch():
        visible = None if visible is None else visible[:, None, None]
        return torch_kernels.softmax(scores, scale, forbidding(visible), position_bias)
    x = ops.cast(scores, "float32") * scale
    if position_bias is not None:
        x = x + ops.cast(position_bias, "float32")
    if visible is not None:
        x = ops.where(visible[:, None, None], x, FORBIDDEN)
    # Not ops.softmax, which warns of a softmax over one value; a first token has one.
    x = ops.exp(x - ops.stop_gradient(ops.max(x, axis=-1, keepdims=True)))
    return ops.cast(x / ops.sum(x, axis=-1, keepdims=True), scores.dtype)


def attention_weights(
    scores: Any,
    padding_mask: Any,
    dropout: keras.layers.Dropout,
    *,
    scale: float,
    causal: bool,
    training: bool | None,
    packed: bool = False,
    position_bias: Any = None,
) -> Any:
    """Compute the softmax of attention scores in float32, with dropout.

    Args:
        scores: (batch, kv heads, groups, length, source length).
        padding_mask: (batch, source length), or None.
        dropout: The dropout layer, whose rate and seeds are used.
        scale: Factor on the scores.
        causal: Whether a position sees only itself and those before it.
        training: Whether dropout is active.
        packed: Whether the mask may tell texts in a row apart.
        position_bias: (1 or batch, kv heads, groups, length, source length) to add to the scores,
            or None.

    Returns:
        A tensor of the shape and dtype of the scores.
    """
    if is_torch():
        visible = visible_keys(padding_mask, packed, causal, ops.shape(scores)[-1])
        weights = torch_kernels.softmax(scores, scale, forbidding(visible), position_bias)
        return drop(weights, dropout, training)
    more = () if padding_mask is None else (ops.cast(padding_mask, "int32"),)
    packed, biased = packed and bool(more), position_bias is not None
    kind = (scale, causal, bool(more), packed, biased)
    if biased:
        more = (*more, position_bias)
    if not is_fusing():
        return dropout(_softmax(0.0, *kind)(scores, *more), training=training)
    rate, seed = rate_and_seed(dropout, training)
    return _softmax(rate, *kind)(scores, *more, seed)


def visible_keys(padding_mask: Any, packed: bool, causal: bool, length: Any) -> Any:
    """Tell which keys a query sees.

    Args:
        padding_mask: (batch, source length), or None.
        packed: Whether the mask may tell texts in a row apart.
        causal: Whether a position sees only itself and those before it.
        length: Source length.

    Returns:
        bool, (batch, 1, 1, 1 or length, source length) or (length, source length), which go with
        scores; None: it sees all.
    """
    found = None
    if padding_mask is not None and packed:
        found = same_text(ops.cast(padding_mask, "int32"))[:, None, None]
    elif padding_mask is not None:
        found = ops.cast(padding_mask, "int32")[:, None, None, None, :] > 0
    if causal:
        positions = ops.arange(length)
        earlier = positions[:, None] >= positions[None, :]
        found = earlier if found is None else found & earlier
    return found


def forbidding(visible: Any) -> Any:
    """Make what is to be added to scores, float32, of what is visible; None of None."""
    # To add a number takes PyTorch a fraction of the time of filling by a mask.
    return None if visible is None else ops.cast(~visible, "float32") * FORBIDDEN


@functools.cache
def _softmax(
    rate: float, scale: float, causal: bool, masked: bool, packed: bool, biased: bool
) -> Callable[..., Any]:
    def compute(scores: Any, *rest: Any) -> Any:
        x = ops.cast(scores, "float32") * scale
        if biased:
            x = x + ops.cast(rest[int(masked)], "float32")
        visible = visible_keys(rest[0] if masked else None, packed, causal, ops.shape(x)[-1])
        if visible is not None:
            x = ops.where(visible, x, FORBIDDEN)
        # Not ops.softmax, which warns of a softmax over one value; one token rightly has one.
        # The maximum only keeps exp in range: the result does not depend on it.
        x = ops.exp(x - ops.stop_gradient(ops.max(x, axis=-1, keepdims=True)))
        x = x / sum_of_rows(x)
        return ops.cast(dropped(x, rate, rest[-1]) if rate else x, scores.dtype)

    return fused(compute)
