"""How a variable of our models lies in a checkpoint: under which names, shaped how."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tensor:
    """One variable and the tensors of a file that it is made of.

    Attributes:
        variable: The variable's path in our model, `"block_0/attention/output/kernel"`.
        names: Tensors in the file that lie side by side along the variable's last axis.
        shapes: Their shapes in the file.
        transposed: Whether the file has them as (outputs, inputs), as PyTorch's Linear does.
        copies: Other names that a variable of one tensor has in the file, too, or instead.
    """

    variable: str
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    transposed: bool = False
    copies: tuple[str, ...] = ()

    def join(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Make the variable's value of what the file holds."""
        ours = [part.T for part in parts] if self.transposed else list(parts)
        return ours[0] if len(ours) == 1 else np.concatenate(ours, axis=-1)

    def split(self, value: np.ndarray) -> list[np.ndarray]:
        """Make what the file holds of the variable's value; the inverse of `join`."""
        widths = [shape[0 if self.transposed else -1] for shape in self.shapes]
        parts = np.split(value, np.cumsum(widths)[:-1], axis=-1)
        stored = [part.T if self.transposed else part for part in parts]
        pairs = zip(stored, self.shapes, strict=True)
        return [np.ascontiguousarray(part.reshape(shape)) for part, shape in pairs]


def linear(
    variable: str,
    names: str | Sequence[str],
    inputs: int,
    outputs: int | Sequence[int],
    *,
    bias: bool = True,
    transposed: bool = True,
) -> list[Tensor]:
    """Describe a dense layer, or several that are one layer here.

    Args:
        variable: The layer's path in our model.
        names: The layers' names in the file.
        inputs: Width of the input.
        outputs: Width of the output, of each layer.
        bias: Whether they have biases.
        transposed: Whether the file has kernels as (outputs, inputs).
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    widths = (outputs,) * len(names) if isinstance(outputs, int) else tuple(outputs)
    shapes = tuple((width, inputs) if transposed else (inputs, width) for width in widths)
    kernels = tuple(f"{name}.weight" for name in names)
    found = [Tensor(f"{variable}/kernel", kernels, shapes, transposed)]
    if bias:
        biases = tuple(f"{name}.bias" for name in names)
        found.append(Tensor(f"{variable}/bias", biases, tuple((width,) for width in widths)))
    return found


def layer_norm(variable: str, name: str, width: int) -> list[Tensor]:
    """Describe a layer normalization: its scale and its bias."""
    return [
        Tensor(f"{variable}/gamma", (f"{name}.weight",), ((width,),)),
        Tensor(f"{variable}/beta", (f"{name}.bias",), ((width,),)),
    ]


def rms_norm(variable: str, name: str, width: int) -> list[Tensor]:
    """Describe a root-mean-square normalization: its scale."""
    return [Tensor(f"{variable}/scale", (f"{name}.weight",), ((width,),))]


def table(variable: str, name: str, rows: int, width: int) -> list[Tensor]:
    """Describe an embedding."""
    return [Tensor(f"{variable}/embeddings", (f"{name}.weight",), ((rows, width),))]


def expected_shapes(tensors: Iterable[Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor that a file must have, by name."""
    return {
        name: shape
        for tensor in tensors
        for name, shape in zip(tensor.names, tensor.shapes, strict=True)
    }
