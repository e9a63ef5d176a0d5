"""Running a model that is cut: what is frozen without dropout, or from its activations."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_finetune.models.flash_attention import has_flash_attention
from keras_finetune.models.model_graph import (
    CarryMask,
    ReadMask,
    Step,
    functional_of,
    needed_steps,
    run_step,
    run_steps,
)
from keras_finetune.models.vocabulary import gather_positions
from keras_finetune.tuning.prefix_cut import PrefixCut
from keras_finetune.tuning.spared_positions import computes_at

FIRST = "cut_0"
COUNTED = "counted_positions"
_FUNCTIONS = ("train_function", "test_function", "predict_function")


@dataclass
class CutFunctions:
    """What Keras compiled for a model while it was cut, for when it is cut there again.

    Attributes:
        cut: Where it was cut.
        functions: From `_functions`.
    """

    cut: PrefixCut | None = None
    functions: tuple[Any, dict[str, Any]] = field(default_factory=lambda: (None, {}))


@contextmanager
def cut_model(
    model: keras.Model, cut: PrefixCut | None, known: CutFunctions | None = None
) -> Iterator[None]:
    """Let a model run in two parts while the context lasts.

    Given its inputs, it runs as ever, but for dropout in the frozen part, which is off. Given the
    tensors of the cut, from `suffix_inputs`, it runs what is above the cut only. Given positions
    beside either, (batch, count) int under `COUNTED`, it gives the outputs of these alone.

    Args:
        model: The model.
        cut: From `find_cut`; None leaves the model alone.
        known: What may be compiled already; what Keras compiles now is left in it.
    """
    if cut is None:
        yield
        return
    functional = functional_of(model)
    carry, read = CarryMask(dtype="float32", autocast=False), ReadMask(autocast=False)
    head = cut.head
    below_head = [] if head is None else needed_steps(cut.graph, _known(cut), [head])

    def call(inputs: Any, training: Any = None, mask: Any = None, **_: Any) -> Any:
        graph, values = cut.graph, {}
        counted = None
        if isinstance(inputs, dict) and COUNTED in inputs:
            counted = inputs[COUNTED]
            inputs = {name: x for name, x in inputs.items() if name != COUNTED}
        if isinstance(inputs, dict) and FIRST in inputs:
            for name, number in tensor_names(cut).items():
                if name in inputs:
                    # The cut's tensors have the dtype that the layers computed in.
                    dtype = graph.symbols[number].dtype if number in graph.inputs else None
                    x = ops.convert_to_tensor(inputs[name], dtype=dtype)
                    kept = inputs.get(f"{name}_mask")
                    values[number] = x if kept is None else carry((x, kept))
        else:
            flat = functional._standardize_inputs(inputs)
            values = dict(zip(graph.inputs, flat, strict=True))
            run_steps(cut.prefix, values, training=False)
        if counted is not None and head is not None:
            at = ops.cast(counted, "int32")
            if below_head and _computes_at(below_head[-1]):
                run_steps(below_head[:-1], values, training)
                run_step(below_head[-1], values, training, positions=at)
            else:
                run_steps(below_head, values, training)
                kept = read(values[head])
                values[head] = gather_positions(values[head], at)
                if kept is not None:
                    values[head] = carry((values[head], ops.take_along_axis(kept, at, axis=1)))
        run_steps(cut.suffix, values, training)
        outputs = [values[number] for number in graph.outputs]
        packed = keras.tree.pack_sequence_as(functional._outputs_struct, outputs)
        return packed[0] if isinstance(packed, list | tuple) and len(packed) == 1 else packed

    # Keras must not compare the cut's tensors with the model's inputs, nor cast them.
    changed = {"call": call, "_manual_input_spec": None, "_convert_input_args": False}
    before = {name: vars(model)[name] for name in changed if name in vars(model)}
    known = known or CutFunctions()
    whole = _functions(model)
    _set_attributes(model, changed)
    _set_functions(model, *(known.functions if _is_same(cut, known.cut) else (None, {})))
    try:
        yield
    finally:
        known.cut, known.functions = cut, _functions(model)
        for name in changed:
            delattr(model, name)
        _set_attributes(model, before)
        _set_functions(model, *whole)


def suffix_inputs(cut: PrefixCut, x: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """Make what the model takes in place of `x`: the cut's tensors and the inputs still needed.

    Args:
        cut: The cut.
        x: The model's inputs, as a dict, list, tuple or a single array.
        tensors: The tensors of the cut by name, from `Prefix`.
    """
    flat = dict(zip(cut.graph.inputs, flat_inputs(cut.graph.model, x), strict=True))
    needed = {name: number for name, number in tensor_names(cut).items() if number in flat}
    return tensors | {name: flat[number] for name, number in needed.items()}


def flat_inputs(model: keras.Model, x: Any) -> list[Any]:
    """Put a model's inputs in Keras's flat order, and give them the rank that Keras would."""
    functional = functional_of(model)
    expected = functional._inputs_struct
    if not isinstance(x, dict):
        flat = keras.tree.flatten(x)
    elif isinstance(expected, dict):
        flat = keras.tree.flatten({name: x[name] for name in expected})
    else:
        flat = [x[symbol.name] for symbol in functional.inputs]
    return [
        _of_rank(value, len(symbol.shape))
        for value, symbol in zip(flat, functional.inputs, strict=True)
    ]


def _of_rank(x: Any, rank: int) -> Any:
    """Add or drop a last axis of 1, if that is all that is wrong."""
    if len(x.shape) == rank - 1:
        return x[..., None]
    return x[..., 0] if len(x.shape) == rank + 1 and x.shape[-1] == 1 else x


class Prefix(keras.Model):
    """The part of a model below a cut.

    Args:
        steps: What to run.
        known: Tensors that are given, by name.
        wanted: Tensors to give, by name.
        shapes: Of each of the known ones, None where it varies.

    Call arguments:
        inputs: The known tensors by name; the mask that Keras carried with one is `<name>_mask`.

    Returns:
        The wanted tensors by name, and the masks that Keras carries with them.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        known: dict[str, int],
        wanted: dict[str, int],
        shapes: dict[str, tuple[int | None, ...]],
    ) -> None:
        super().__init__(dtype="float32")
        self.carry, self.read = CarryMask(autocast=False), ReadMask(autocast=False)
        # With one layer that is not built, Keras on JAX first runs all of them eagerly, each time.
        self.built = self.carry.built = self.read.built = True
        self.parts = [x.operation for x in steps if isinstance(x.operation, keras.layers.Layer)]
        self._run = (list(steps), dict(known), dict(wanted))
        self._shapes = dict(shapes)
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True

    def call(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Run the steps in inference mode."""
        steps, known, wanted = self._run
        values = {}
        for name, number in known.items():
            mask = inputs.get(f"{name}_mask")
            values[number] = inputs[name] if mask is None else self.carry((inputs[name], mask))
        run_steps(steps, values, training=False)
        found = {name: values[number] for name, number in wanted.items()}
        masks = {f"{name}_mask": self.read(x) for name, x in found.items()}
        return found | {name: mask for name, mask in masks.items() if mask is not None}

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Give the wanted tensors, and their masks, of a batch of any size."""
        if self.predict_function is None and keras.backend.backend() == "tensorflow":
            self._trace(inputs)
        return {name: np.asarray(x) for name, x in self.predict_on_batch(inputs).items()}

    def _trace(self, inputs: dict[str, np.ndarray]) -> None:
        """Trace once for all sizes; Keras would for the first batch's, and then for all others."""
        import tensorflow as tf

        shapes = self._shapes | {f"{name}_mask": x[:2] for name, x in self._shapes.items()}
        specs = {name: tf.TensorSpec(shapes[name], x.dtype) for name, x in inputs.items()}
        self.make_predict_function()
        self.predict_function.get_concrete_function([(specs,)])


def make_prefix(cut: PrefixCut, start: PrefixCut | None = None) -> Prefix:
    """Make the model that gives the cut's tensors.

    Args:
        cut: The cut.
        start: A cut further below, whose tensors are known; None to start at the inputs.
    """
    graph = cut.graph
    known = {f"input_{i}": number for i, number in enumerate(graph.inputs)}
    if start is not None:
        known |= {f"start_{i}": number for i, number in enumerate(start.tensors)}
    wanted = {name: n for name, n in tensor_names(cut).items() if n in cut.tensors}
    shapes = {name: graph.symbols[number].shape for name, number in known.items()}
    steps = needed_steps(graph, known.values(), wanted.values())
    prefix = Prefix(steps, known, wanted, shapes)
    prefix.compile()
    return prefix


def prefix_inputs(cut: PrefixCut, x: Any) -> dict[str, Any]:
    """Name a model's inputs as `make_prefix`'s model takes them."""
    symbols = [cut.graph.symbols[number] for number in cut.graph.inputs]
    flat = flat_inputs(cut.graph.model, x)
    return {
        f"input_{i}": np.asarray(value).astype(symbol.dtype, copy=False)
        for i, (value, symbol) in enumerate(zip(flat, symbols, strict=True))
    }


def tensor_names(cut: PrefixCut) -> dict[str, int]:
    """Names of all tensors that the part above the cut may need."""
    used = {number for step in cut.suffix for number in step.inputs.values()}
    used.update(cut.graph.outputs)
    names = {f"cut_{i}": number for i, number in enumerate(cut.tensors)}
    inputs = {f"input_{i}": number for i, number in enumerate(cut.graph.inputs)}
    return names | {name: number for name, number in inputs.items() if number in used}


def _known(cut: PrefixCut) -> list[int]:
    """Numbers of the tensors that what is above the cut starts from."""
    return [*cut.graph.inputs, *cut.tensors]


def _set_attributes(model: keras.Model, values: dict[str, Any]) -> None:
    for name, value in values.items():
        setattr(model, name, value)


def _functions(model: keras.Model) -> tuple[Any, dict[str, Any]]:
    """What Keras compiled, and what `compile` had been given."""
    return getattr(model, "_compile_config", None), {x: getattr(model, x) for x in _FUNCTIONS}


def _set_functions(model: keras.Model, config: Any, functions: dict[str, Any]) -> None:
    """Give a model what Keras had compiled for it, but nothing after another `compile`."""
    is_current = config is getattr(model, "_compile_config", None)
    for name in _FUNCTIONS:
        setattr(model, name, functions.get(name) if is_current else None)


def _computes_at(step: Step) -> bool:
    # Flash attention for all positions takes less memory than the scores of some.
    return computes_at(step) and not has_flash_attention()


def _is_same(cut: PrefixCut, other: PrefixCut | None) -> bool:
    if other is None or cut.tensors != other.tensors:
        return False
    nodes, others = ([step.node for step in (*x.prefix, *x.suffix)] for x in (cut, other))
    return nodes == others
