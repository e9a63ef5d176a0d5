"""Transformer blocks that are alike, traced and compiled once for all of them."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from typing import Any

import keras

from keras_finetune.generation.kept_stacks import Kept
from keras_finetune.models import TransformerBlock
from keras_finetune.models.fused import without_xla
from keras_finetune.models.new_tokens import NewTokens

# More take longer to compile; each call of a function takes time of its own.
_BLOCKS_A_CALL = 6


@dataclass(frozen=True)
class AlikeBlocks:
    """Runs blocks on new tokens, one after the other.

    A model has dozens of the same block, and most of the time that a first text takes goes into
    tracing and compiling them. On TensorFlow a function runs a few of them, and gets their weights:
    so it serves the next few as well. JAX and PyTorch run each block as it is.

    Attributes:
        with_xla: Whether XLA compiles the functions.
        transposed: By the id of a variable, its transposed value, to read in its place.
    """

    with_xla: bool
    transposed: Mapping[int, Any] = field(default_factory=dict)
    _functions: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def run(
        self, blocks: Sequence[TransformerBlock], inputs: Any, kept: Sequence[Kept], new: NewTokens
    ) -> tuple[Any, list[Kept]]:
        """Run the `step` of each block on what the one before gives.

        Args:
            blocks: The blocks.
            inputs: (batch, new, hidden_dim), of the first one.
            kept: For each block, from its `start` or from the step before.
            new: Where the tokens stand.

        Returns:
            The outputs of the last block, and what each has to write to what it keeps. The caller
            writes it: a function that XLA compiles would copy what it writes to, and the next
            blocks would wait for it.
        """
        if keras.backend.backend() != "tensorflow":
            return _run(blocks, inputs, kept, new)
        found = []
        for first in range(0, len(blocks), _BLOCKS_A_CALL):
            few = slice(first, first + _BLOCKS_A_CALL)
            inputs, of_few = self._call(blocks[few], inputs, kept[few], new)
            found += of_few
        return inputs, found

    def run_last(self, function: Callable[[], Any]) -> Any:
        """Run what comes after the blocks, compiled as they are."""
        if not self.with_xla:
            return function()
        import tensorflow as tf

        return tf.function(function, jit_compile=True, autograph=False)()

    def _call(
        self, blocks: Sequence[TransformerBlock], inputs: Any, kept: Sequence[Kept], new: NewTokens
    ) -> tuple[Any, list[Kept]]:
        import tensorflow as tf

        variables = [v for block in blocks for v in block.variables]
        turned = [id(v) in self.transposed for v in variables]
        first: dict[int, int] = {}
        shared = [first.setdefault(id(v), number) for number, v in enumerate(variables)]
        kind = (*map(_kind, blocks), *turned, *shared)
        if kind not in self._functions:
            self._functions[kind] = self._function(blocks, variables, turned)
        weights = [tf.convert_to_tensor(self.transposed.get(id(v), v.value)) for v in variables]
        where = tuple(getattr(new, each.name) for each in fields(new))
        outputs, after = self._functions[kind](weights, inputs, list(kept), where)
        return outputs, list(after)

    def _function(
        self, blocks: Sequence[TransformerBlock], variables: list[Any], turned: list[bool]
    ) -> Any:
        import tensorflow as tf

        def run(weights: list[Any], inputs: Any, kept: list[Kept], new: tuple[Any, ...]) -> Any:
            given = list(zip(variables, weights, turned, strict=True))
            read = [(v, tf.transpose(x) if is_turned else x) for v, x, is_turned in given]
            tokens = NewTokens(*new)
            transposed = {id(v): x for v, x, is_turned in given if is_turned}
            rows, columns = inputs.shape[:2]
            # With XLA, one row gains nothing from the kernel on the left.
            if columns == 1 and not (self.with_xla and rows == 1):
                tokens = replace(tokens, transposed=transposed, with_xla=self.with_xla)
            # A kernel of XLA's takes longer to start than a token's numbers to compute.
            is_small = columns == 1 and not self.with_xla
            with keras.StatelessScope(read), without_xla() if is_small else nullcontext():
                return _run(blocks, inputs, kept, tokens)

        return tf.function(run, jit_compile=self.with_xla, autograph=False)


def _run(
    blocks: Sequence[TransformerBlock], inputs: Any, kept: Sequence[Kept], new: NewTokens
) -> tuple[Any, list[Kept]]:
    after = []
    for block, before in zip(blocks, kept, strict=True):
        inputs, found = block.step(inputs, before, new)
        after.append(found)
    return inputs, after


def _kind(block: TransformerBlock) -> tuple[Any, ...]:
    """What blocks that are alike have in common: all but their names and their weights' values."""
    variables = tuple((v.name, tuple(v.shape), v.dtype) for v in block.variables)
    return (*map(_settings, block._flatten_layers()), variables)


def _settings(layer: keras.layers.Layer) -> tuple[type, str]:
    """What a layer computes, given its weights: its config, and numbers that were set later."""
    ignored = ("name", "trainable", "initializer", "regularizer", "constraint")
    numbers = {key: x for key, x in vars(layer).items() if isinstance(x, bool | int | float)}
    settings = {
        key: x
        for key, x in (layer.get_config() | numbers).items()
        if not key.startswith("_") and not key.endswith(ignored)
    }
    return type(layer), json.dumps(settings, sort_keys=True, default=str)
