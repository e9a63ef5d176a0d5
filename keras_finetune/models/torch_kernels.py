"""What PyTorch computes in one pass, where Keras's operations there are several.

PyTorch runs operation by operation, and each reads and writes the whole tensor. For what lies
between the matrix products of a transformer it has kernels of its own, which compute in float32
inside whatever the dtype; only dropout on a CPU is slower there than it need be. A new token is so
little work that calling a Keras layer takes as long as its product: `linear` and `normalize` do
without.
"""

import functools
from typing import Any

import keras
from keras import ops


@functools.cache
def is_torch() -> bool:
    """Tell whether PyTorch is the backend."""
    return keras.backend.backend() == "torch"


def softmax(scores: Any, scale: float, forbidden: Any = None, bias: Any = None) -> Any:
    """Compute the softmax of attention scores in float32.

    Args:
        scores: (batch, heads, groups, length, source length).
        scale: Factor on the scores.
        forbidden: To add to them then, float32, from `attention_weights.forbidding`, or None.
        bias: To add, too, or None.

    Returns:
        A tensor of the shape and dtype of the scores.
    """
    import torch

    x = scores.float()
    x = x * scale if forbidden is None else torch.add(forbidden, x, alpha=scale)
    if bias is not None:
        x = x + bias.float()
    return torch.softmax(x, dim=-1).to(scores.dtype)


def linear(dense: keras.layers.Dense, x: Any) -> Any:
    """Compute what a dense layer does that is no more than a product and a bias.

    Args:
        dense: A built layer for which `fused.is_product` holds.
        x: (..., width).

    Returns:
        (..., units) in the layer's compute dtype.
    """
    x = ops.cast(x, dense.compute_dtype)
    product = x @ ops.cast(dense.kernel, x.dtype)
    return product + ops.cast(dense.bias, x.dtype) if dense.use_bias else product


def normalize(norm: Any, x: Any) -> Any:
    """Compute what a layer from `make_norm` does, in float32 at least.

    Args:
        norm: A built layer.
        x: (..., width).

    Returns:
        A tensor of the shape and dtype of x.
    """
    import torch
    from torch.nn import functional

    shape, wide = (x.shape[-1],), x.to(torch.promote_types(x.dtype, torch.float32))
    if isinstance(norm, keras.layers.RMSNormalization):
        y = functional.rms_norm(wide, shape, ops.cast(norm.scale, wide.dtype), norm.epsilon)
    else:
        gamma, beta = (ops.cast(w, wide.dtype) for w in (norm.gamma, norm.beta))
        y = functional.layer_norm(wide, shape, gamma, beta, norm.epsilon)
    return y.to(x.dtype)


def dropout(x: Any, layer: keras.layers.Dropout, training: bool | None) -> Any:
    """Apply a dropout layer; on a CPU by 16 random bits an element, in a third of the time.

    The rate is that of the layer to 1 in 65,536. A layer with a seed of its own runs as it is.

    Args:
        x: Any tensor.
        layer: Its rate and seed are used.
        training: Whether it is active.

    Returns:
        A tensor of the shape and dtype of x.
    """
    if not training:
        return x
    is_plain = layer.seed is None and layer.noise_shape is None and 0.0 < layer.rate < 1.0
    if not (is_plain and x.device.type == "cpu"):
        return layer(x, training=True)
    import torch

    count = x.numel()
    drawn = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    numbers = drawn.view(torch.int16)[:count].view(x.shape)
    # In place they stay numbers: to go on from truth values is several times slower.
    kept = numbers.ge_(min(round(layer.rate * 2**16), 2**16 - 1) - 2**15).to(x.dtype)
    return x * kept * (1.0 / (1.0 - layer.rate))
