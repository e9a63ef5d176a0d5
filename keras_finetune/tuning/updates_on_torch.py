"""Adam and clipping in few passes over memory, on PyTorch and a CPU."""

from collections.abc import Sequence
from typing import Any

import keras


def adam_step(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[Any],
    variables: Sequence[Any],
    learning_rate: Any,
) -> None:
    """Update by the one kernel that PyTorch has for Adam."""
    import torch
    from torch.optim.adam import adam

    step = int(optimizer.iterations)
    indices = [optimizer._get_variable_index(x) for x in variables]
    values = [x.value for x in variables]
    for value in values:
        if not value.is_contiguous():  # As weights from a file are; the kernel would copy them all.
            value.data = value.data.contiguous()
    with torch.no_grad():
        adam(
            values,
            # Of an expanded one the kernel would read what is not there.
            [g.to(x.dtype).contiguous() for g, x in zip(gradients, values, strict=True)],
            [optimizer._momentums[i].value for i in indices],
            [optimizer._velocities[i].value for i in indices],
            [],
            list(torch.full((len(indices),), float(step)).unbind()),  # It counts on by itself.
            fused=True,
            amsgrad=False,
            beta1=float(optimizer.beta_1),
            beta2=float(optimizer.beta_2),
            lr=float(learning_rate),
            weight_decay=0.0,
            # PyTorch adds its own to the root of the corrected moment, Keras to that of the plain.
            eps=float(optimizer.epsilon / (1.0 - optimizer.beta_2 ** (step + 1)) ** 0.5),
            maximize=False,
        )


def clipped(gradients: Sequence[Any], most: float) -> list[Any]:
    """Scale all gradients so that their common norm is at most `most`; NaN stays NaN."""
    import torch

    some = [x for x in gradients if x is not None]
    with torch.no_grad():
        norms = torch._foreach_norm([x.float() for x in some])
        norm = torch.linalg.vector_norm(torch.stack(norms))
        if float(norm) <= most:
            return list(gradients)
        # Not in place: what stands in `grad` after a step is what a callback may want to see.
        scaled = iter(torch._foreach_mul(some, most / torch.clamp(norm, min=most)))
    return [None if x is None else next(scaled) for x in gradients]
