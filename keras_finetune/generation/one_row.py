"""The next token of one row, or of few, on a CPU, where reading weights is most of the work."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import keras

from keras_finetune.device import has_amx, on_gpu
from keras_finetune.generation.alike_blocks import AlikeBlocks
from keras_finetune.generation.compiled import by_shapes
from keras_finetune.models import TransformerBlock

# From so many numbers on, XLA does not take a vector into the loop that multiplies it.
_TOO_LONG = 4096

# Each argument of a call takes its time, but memory for very large ones is new at every call.
_KERNELS_A_COPY = 12

# Measured: a third faster with 2 to 16 rows; nothing is gained with 32 and 64. In float32 a fifth
# with 8 rows, a tenth with 16, nothing with 2; with 4 the copies take more than short texts gain.
MOST_ROWS = 16
FEWEST_ROWS_IN_FLOAT32 = 8

# Measured: shorter texts gain less than the copies take. One row in float32 gains an eighth only.
FEWEST_TOKENS = 8
FEWEST_TOKENS_OF_A_FLOAT32_ROW = 32


def one_row_step(
    blocks: Iterable[TransformerBlock], function: Callable[..., Any]
) -> "TransposedStep | None":
    """Compile a function that runs blocks for one row, if there is a faster way for one.

    Args:
        blocks: What the function runs.
        function: From `AlikeBlocks` and nested dicts of tensors to nested tensors, pure.

    Returns:
        None with another backend than TensorFlow, on a GPU, and for very wide layers.
    """
    kernels = _kernels(blocks)
    if not kernels:
        return None
    full = any(dtype == "float32" for _, dtype in kernels)
    tokens = FEWEST_TOKENS_OF_A_FLOAT32_ROW if full else FEWEST_TOKENS
    return TransposedStep(kernels, function, with_xla=True, rows=range(1, 2), tokens=tokens)


def few_rows_step(
    blocks: Iterable[TransformerBlock], function: Callable[..., Any]
) -> "TransposedStep | None":
    """Compile a function that runs blocks for few rows, at most `MOST_ROWS`, if that is faster.

    Args:
        blocks: What the function runs.
        function: As for `one_row_step`.

    Returns:
        None, but for float32 on a CPU, and bfloat16 on one with AMX: there, large products of few
        rows take a fifth to a quarter less time with a transposed kernel on the left
        (`NewTokens.product`), in float32 if XLA compiles them.
    """
    kernels = _kernels(blocks)
    dtypes = {dtype for _, dtype in kernels}
    if dtypes == {"float32"}:
        rows = range(FEWEST_ROWS_IN_FLOAT32, MOST_ROWS + 1)
        return TransposedStep(kernels, function, with_xla=True, rows=rows)
    if dtypes == {"bfloat16"} and has_amx():
        return TransposedStep(kernels, function, with_xla=False, rows=range(2, MOST_ROWS + 1))
    return None


def _kernels(blocks: Iterable[TransformerBlock]) -> list[tuple[Any, str]]:
    """The kernels of all dense layers, with the dtype each is used in, if all may be transposed."""
    if keras.backend.backend() != "tensorflow" or on_gpu():
        return []
    # A block may be called twice.
    inside = {id(part): part for block in blocks for part in block._flatten_layers()}.values()
    kernels = [(x.kernel, x.compute_dtype) for x in inside if type(x) is keras.layers.Dense]
    suits = all(
        isinstance(kernel, keras.Variable)
        and kernel.shape[0] < _TOO_LONG
        and {kernel.dtype, dtype} <= {"float32", "bfloat16"}
        for kernel, dtype in kernels
    )
    return kernels if suits else []


class TransposedStep:
    """A function of tensors whose blocks read the kernels of dense layers from transposed copies.

    Where the numbers that make one output of one row lie side by side, XLA reads them once, on all
    processors, and bfloat16 as it is; else it reads float32 at half the speed, and writes bfloat16
    down as float32 first.

    Args:
        kernels: The kernels, and the dtype that each is used in.
        function: From `AlikeBlocks` and nested dicts of tensors to nested tensors, pure.
        with_xla: Whether XLA compiles the blocks.
        rows: How many rows it is faster for.
        tokens: From how many new tokens on it is, with what the copies take.
    """

    def __init__(
        self,
        kernels: list[tuple[Any, str]],
        function: Callable[..., Any],
        *,
        with_xla: bool,
        rows: range,
        tokens: int = FEWEST_TOKENS,
    ) -> None:
        import tensorflow as tf

        self._rows, self._tokens = rows, tokens
        by_width: dict[tuple[str, int], list[Any]] = {}
        for kernel, dtype in kernels:
            by_width.setdefault((dtype, kernel.shape[0]), []).append(kernel)
        self._copied = [
            (dtype, alike[first : first + _KERNELS_A_COPY])
            for (dtype, _), alike in by_width.items()
            for first in range(0, len(alike), _KERNELS_A_COPY)
        ]
        blocks = AlikeBlocks(with_xla=with_xla)

        def run(copies: list[Any], args: tuple[Any, ...]) -> Any:
            return function(dataclasses.replace(blocks, transposed=self._parts(copies)), *args)

        # A `tf.function` of each model would warn of retracing.
        self._transpose = functools.cache(
            tf.function(self._transposed, autograph=False).get_concrete_function
        )
        self._run = by_shapes(run)

    def suits(self, rows: int, tokens: int) -> bool:
        """Tell whether this is the faster way for so many rows and new tokens of each."""
        return rows in self._rows and tokens >= self._tokens

    def copies(self) -> Any:
        """Transpose the weights as they are now, for calls."""
        return self._transpose()()

    def __call__(self, copies: Any, *args: Any) -> Any:
        """Run the function on NumPy arrays or tensors, with weights from `copies`."""
        return self._run(copies, args)

    def _transposed(self) -> list[Any]:
        import tensorflow as tf

        copies: list[Any] = []
        for dtype, kernels in self._copied:
            # One after the other: what is not joined yet would take as much memory again.
            with tf.control_dependencies(copies[-1:]):
                transposed = [tf.transpose(tf.cast(x.value, dtype)) for x in kernels]
                copies.append(tf.concat(transposed, 0))
        return copies

    def _parts(self, copies: list[Any]) -> dict[int, Any]:
        """What to read in the place of each kernel, by its id: a part of a copy, not copied."""
        import tensorflow as tf

        found: dict[int, Any] = {}
        for copy, (_, kernels) in zip(copies, self._copied, strict=True):
            parts = tf.split(copy, [kernel.shape[1] for kernel in kernels])
            found |= {id(x): part for x, part in zip(kernels, parts, strict=True)}
        return found
