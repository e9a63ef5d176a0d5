"""A model run a few tokens at a time: what earlier tokens left behind is kept."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_finetune.generation.alike_blocks import AlikeBlocks
from keras_finetune.generation.compiled import compiled, xla_pays
from keras_finetune.generation.decoder_graph import (
    argument,
    chains,
    head_start,
    input_numbers,
    source_and_target,
    target_prefix,
)
from keras_finetune.generation.kept_stacks import AllKept, Kept, KeptStacks
from keras_finetune.generation.one_row import (
    TransposedStep,
    few_rows_step,
    one_row_step,
)
from keras_finetune.generation.widths import COLUMNS, rounded
from keras_finetune.models import (
    Attention,
    PositionEmbedding,
    RecurrentBlock,
    RelativePositionBias,
    TransformerBlock,
)
from keras_finetune.models.model_graph import Step, model_graph, run_steps
from keras_finetune.models.new_tokens import NewTokens
from keras_finetune.models.position_wise import POSITION_WISE
from keras_finetune.models.vocabulary import take_positions


class CachedDecoder:
    """Gives the logits of each row's next token, and computes every token once.

    A copy (`copy.copy`) shares what was compiled, and goes on by itself: one for each generation.

    The model's graph is cut in two: what does not depend on the target, an encoder, runs once; the
    rest runs once for the prompts and then once a token.

    Args:
        model: Gives logits, (batch, length, vocab_size), from a task or `language_model`.
    """

    def __init__(self, model: keras.Model) -> None:
        graph = model_graph(model)
        assert graph is not None  # `can_keep` has looked.
        numbers = input_numbers(model, graph)
        prefix = target_prefix(model)
        self._ids, self._mask = numbers[prefix + "token_ids"], numbers[prefix + "padding_mask"]
        self._source_inputs = {
            name: number for name, number in numbers.items() if not name.startswith(prefix)
        }
        if not prefix:
            self._source_inputs = {}
        self._source, self._target = source_and_target(graph, {self._ids, self._mask})
        self._output = graph.outputs[0]
        self._chains = chains(self._target)
        # From here on nothing looks back: final norm and head.
        self._last = len(self._chains)
        while self._last and isinstance(self._chains[self._last - 1][0].operation, POSITION_WISE):
            self._last -= 1
        # The head is the larger part of a prompt's work, and only wanted of its last token.
        self._head = head_start(self._chains, self._last)
        self._kept: AllKept = {}
        self._stacks = KeptStacks(self._target)
        self._recurrent = [
            x.outputs[0] for x in self._target if isinstance(x.operation, RecurrentBlock)
        ]
        self._copies: Any = None
        blocks = [x.operation for x in self._target if isinstance(x.operation, TransformerBlock)]
        with_xla = xla_pays(model)
        reading, stepping = AlikeBlocks(False), AlikeBlocks(with_xla and bool(blocks))
        self._begin = compiled(model, self._begin_)
        self._read = compiled(model, partial(self._step_, reading))
        self._step = compiled(
            model,
            partial(self._step_, stepping),
            few_shapes=True,
            with_xla=with_xla and not blocks,
        )
        self._one_row = one_row_step(blocks, self._step_)
        self._few_rows = few_rows_step(blocks, self._step_)

    def start(
        self, prompts: np.ndarray, mask: np.ndarray, room: int, source: Mapping[str, Any]
    ) -> np.ndarray:
        """Read prompts.

        Args:
            prompts: (batch, width) int32, padded on the right.
            mask: (batch, width) bool, `True` for real tokens, one at least in each row.
            room: int, tokens that may come after them.
            source: What goes into the encoder, by name, if there is one.

        Returns:
            (batch, vocab_size) float32, the logits of the tokens that come next.
        """
        self._copies = None
        self._room = room
        batch, width = prompts.shape
        capacity = rounded(width + room, 4 * COLUMNS)
        self._seen = np.zeros((batch, capacity), bool)
        self._seen[:, :width] = mask
        self._lengths = mask.sum(1).astype(np.int32)
        self._slot = 0
        self._source_mask = np.asarray(source.get("padding_mask", np.zeros((batch, 0))), np.int32)
        # The size is the length of an array, so that JAX knows it when it compiles.
        self._kept = self._begin(dict(source), prompts, np.zeros(capacity, np.int32))
        # Padding may stand further right than there are positions.
        positions = np.minimum(np.arange(width), self._lengths[:, None] - 1)
        return self._run(prompts, positions, mask, self._lengths - 1)

    def next(self, tokens: np.ndarray) -> np.ndarray:
        """Read one more token of each row.

        Args:
            tokens: (batch,) int32.

        Returns:
            (batch, vocab_size) float32, the logits of the tokens after them.
        """
        self._seen[:, self._slot] = True
        positions = self._lengths[:, None]
        self._lengths = self._lengths + 1
        real = np.ones((len(tokens), 1), bool)
        return self._run(tokens[:, None], positions, real, np.zeros(len(tokens), np.int32))

    def reorder(self, rows: np.ndarray) -> None:
        """Go on with other rows in the place of these.

        Args:
            rows: (new batch,) int32, the row that each new row continues.
        """
        self._kept = self._stacks.rows(self._kept, rows)
        self._seen, self._lengths = self._seen[rows], self._lengths[rows]
        self._source_mask = self._source_mask[rows]

    def _run(
        self, tokens: np.ndarray, positions: np.ndarray, real: np.ndarray, last: np.ndarray
    ) -> np.ndarray:
        count, columns = tokens.shape[1], np.arange(self._seen.shape[1])
        new = self._slot + np.arange(count)
        # Padding sees its own column, so that no row of attention weights is without one.
        own = columns == new[:, None]
        visible = (self._seen[:, None] & (columns <= new[:, None])) | own
        run = self._read
        if count == 1 and self._slot:
            steps = [x for x in (self._one_row, self._few_rows) if x is not None]
            faster = [x for x in steps if x.suits(len(tokens), self._room)]
            run = self._with_copies(faster[0]) if faster else self._step
        logits, self._kept = run(
            tokens.astype(np.int32),
            np.int32(self._slot),
            positions.astype(np.int32),
            visible,
            real,
            last.astype(np.int32),
            self._source_mask,
            self._kept,
        )
        self._slot += count
        found: np.ndarray = ops.convert_to_numpy(logits)
        return found

    def _with_copies(self, step: TransposedStep) -> Any:
        """The step, with copies of the weights that last as long as its texts."""
        if self._copies is None:
            self._copies = step.copies()
        return partial(step, self._copies)

    def _begin_(self, source: dict[str, Any], prompts: Any, columns: Any) -> AllKept:
        batch, capacity = ops.shape(prompts)[0], ops.shape(columns)[0]
        values = {number: source[name] for name, number in self._source_inputs.items()}
        run_steps(self._source, values, training=False)
        kept: AllKept = {}
        for step in self._target:
            layer, made = step.operation, step.outputs[0]
            if isinstance(layer, RecurrentBlock):
                kept[made] = layer.start(batch)
            elif isinstance(layer, Attention):
                keys, of_keys = layer.keys_and_values(_read(step, "encoder_output", values))
                kept[made] = {"keys": keys, "values": of_keys}
            elif isinstance(layer, TransformerBlock) and layer.cross_attention:
                output = _read(step, "encoder_output", values)
                kept[made] = layer.start(batch, capacity, output)
            elif isinstance(layer, TransformerBlock):
                kept[made] = layer.start(batch, capacity)
        return self._stacks.together(kept)

    def _step_(
        self,
        alike: AlikeBlocks,
        tokens: Any,
        slot: Any,
        positions: Any,
        visible: Any,
        real: Any,
        last: Any,
        source_mask: Any,
        kept: AllKept,
    ) -> tuple[Any, AllKept]:
        new = NewTokens(slot, positions, visible, real, source_mask)
        values = {self._ids: tokens, self._mask: ops.cast(real, "int32")}
        apart = self._stacks.apart(kept)
        to_write: dict[int, Kept] = {}
        for steps in self._chains[: self._last]:
            self._run_steps(steps, values, apart, to_write, new, alike)

        def logits() -> Any:
            for number, steps in enumerate(self._chains[self._last :], self._last):
                if number == self._head:
                    # As a matrix, which TensorFlow multiplies without transposing the embeddings.
                    (features,) = set(steps[0].inputs.values())
                    wanted = take_positions(values[features], last[:, None])
                    values[features] = new.computed_once(wanted)
                run_steps(steps, values, training=False)
            found = values[self._output]
            if self._head == len(self._chains):
                found = take_positions(found, last[:, None])
            return ops.cast(found, "float32")

        kept = kept | {place: apart[place] for place in self._recurrent}
        found = alike.run_last(logits)
        return found, self._stacks.write(kept, to_write, slot, after=found)

    def _run_steps(
        self,
        steps: list[Step],
        values: dict[int, Any],
        kept: AllKept,
        to_write: dict[int, Kept],
        new: NewTokens,
        alike: AlikeBlocks,
    ) -> None:
        layer, made = steps[0].operation, steps[-1].outputs[0]
        if isinstance(layer, POSITION_WISE):
            run_steps(steps, values, training=False)
            return
        if isinstance(layer, RelativePositionBias):
            values[made] = layer.step(new)
            return
        x = _read(steps[0], "inputs", values)
        if isinstance(layer, TransformerBlock):
            blocks, places = [step.operation for step in steps], [step.outputs[0] for step in steps]
            bias = argument(steps[0], "position_bias")
            new = replace(new, position_bias=None if bias is None else values[bias])
            values[made], found = alike.run(blocks, x, [kept[place] for place in places], new)
            to_write.update(zip(places, found, strict=True))
        elif isinstance(layer, RecurrentBlock):
            values[made], kept[made] = layer.step(x, kept[made], new.real)
        elif isinstance(layer, PositionEmbedding):
            values[made] = layer.step(x, new.positions)
        else:
            values[made] = layer.step_to_encoder(x, **kept[made], new=new)


def _read(step: Step, name: str, values: dict[int, Any]) -> Any:
    """The tensor that an argument of a step is, one that must be given."""
    number = argument(step, name)
    assert number is not None  # `can_keep` has looked.
    return values[number]
