"""What blocks keep of earlier tokens, in few tensors, since each argument of a call takes its time.

Only on TensorFlow, where a block reads its part of a stack as it lies. JAX would copy each part.
"""

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import keras
from keras import ops

from keras_finetune.models import TransformerBlock
from keras_finetune.models.kept_tokens import write
from keras_finetune.models.model_graph import Step

# What a layer keeps of earlier tokens, by name.
Kept = dict[str, Any]

# By what a step gives, since a layer may be called twice.
AllKept = dict[int, Kept]


class KeptStacks:
    """Puts what blocks of the same heads keep into stacks, (blocks, batch, ...), and takes it out.

    Args:
        steps: Of a model's graph. What others than blocks keep stays as it is.
    """

    def __init__(self, steps: Iterable[Step]) -> None:
        by_heads: dict[tuple[Any, ...], list[int]] = {}
        for step in steps:
            if isinstance(step.operation, TransformerBlock):
                by_heads.setdefault(_heads(step.operation), []).append(step.outputs[0])
        stacking = keras.backend.backend() == "tensorflow"
        self._members = {x[0]: x for x in by_heads.values()} if stacking else {}

    def together(self, kept: AllKept) -> AllKept:
        """Stack what was kept: in the place of each stack's first block what all of them have."""
        inside = {place for places in self._members.values() for place in places}
        found = {place: x for place, x in kept.items() if place not in inside}
        for first, places in self._members.items():
            found[first] = {
                name: ops.stack([kept[place][name] for place in places]) for name in kept[first]
            }
        return found

    def apart(self, kept: AllKept) -> AllKept:
        """Undo `together`."""
        found = dict(kept)
        for first, places in self._members.items():
            for name, stack in kept[first].items():
                parts = ops.unstack(stack, len(places))
                for place, part in zip(places, parts, strict=True):
                    found[place] = found.get(place, {}) | {name: part}
        return found

    def write(self, kept: AllKept, new: Mapping[int, Kept], slot: Any, after: Any) -> AllKept:
        """Write keys and values of new tokens behind those of earlier ones.

        Args:
            kept: From `together`.
            new: By the place of each block, (batch, kv heads, new, head_dim) by name.
            slot: int32 scalar, the column of the first new token.
            after: A tensor that was computed from what was kept, so that nobody reads it later.

        Returns:
            In the form of `kept`; on a CPU the same tensors, written to.
        """
        written = dict(kept)
        with _after(after):
            for place in kept.keys() & new.keys():  # Others are in the stack of one of these.
                written[place] = kept[place] | {
                    name: self._write(place, name, kept[place][name], new, slot)
                    for name in new[place]
                }
        return written

    def _write(self, place: int, name: str, kept: Any, new: Mapping[int, Kept], slot: Any) -> Any:
        if place not in self._members:
            return write(kept, new[place][name], slot)
        made = ops.concatenate([new[member][name] for member in self._members[place]])
        of_rows = ops.reshape(kept, (-1, *ops.shape(kept)[2:]))
        return ops.reshape(write(of_rows, made, slot), ops.shape(kept))

    def rows(self, kept: AllKept, rows: Any) -> AllKept:
        """Take some rows of a batch.

        Args:
            kept: From `together`.
            rows: (new batch,) int32.
        """
        return {
            place: {
                name: ops.take(x, rows, axis=1 if place in self._members else 0)
                for name, x in each.items()
            }
            for place, each in kept.items()
        }


def _heads(block: TransformerBlock) -> tuple[Any, ...]:
    attentions = [block.attention, *([block.encoder_attention] if block.cross_attention else [])]
    return tuple((x.num_kv_heads, x._head_dim, x.compute_dtype) for x in attentions)


def _after(tensor: Any) -> Any:
    if keras.backend.backend() != "tensorflow":
        return nullcontext()
    import tensorflow as tf

    return tf.control_dependencies([tensor])
