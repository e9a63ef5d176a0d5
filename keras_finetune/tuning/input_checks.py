"""Checks that data has the inputs that a model takes, and labels."""

import inspect
import re
import sys
from collections.abc import Mapping
from typing import Any

import keras

from keras_finetune.models.model_graph import functional_of
from keras_finetune.suggest import did_you_mean

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


def check_inputs(side: str, model: keras.Model, x: Any) -> None:
    """Refuse data that lacks inputs of a functional or sequential model, or is of another shape.

    Args:
        side: What to call the data in an error.
        model: The model; one with a `call` or training of its own may take anything.
        x: Arrays or the specs of a `tf.data.Dataset`: one, or a dict, list or tuple of them.

    Example:
        >>> import keras, numpy as np
        >>> a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
        >>> check_inputs("training data", keras.Model([a, b], a + b), {"a": np.ones((3, 2))})
        Traceback (most recent call last):
        ...
        ValueError: The training data lacks the input 'b'. The model takes 'a', 'b'. Received: 'a'.
    """
    named = _named_inputs(model)
    if named is None:
        return
    needed = [name for name, symbol in named.items() if not _is_optional(symbol)]
    if isinstance(x, Mapping):
        _check_names(side, model, named, needed, x)
    leaves = keras.tree.flatten(x)
    if not isinstance(x, Mapping) and not len(needed) <= len(leaves) <= len(named):
        shown = ", ".join(f"{name!r}: ..." for name in named)
        raise ValueError(
            f"The model takes {len(named)} input(s), but the {side} has {len(leaves)} of no name. "
            f"Give {_form_without_names(model, named) or f'a dict: {{{shown}}}'}."
        )
    given: dict[str, Any] = {}
    for symbol, leaf in zip(input_symbols(model, x), leaves, strict=True):
        name = next((name for name in named if named[name] is symbol), None)
        if name is not None:
            given[name] = leaf
    missing = [name for name in needed if name in given and given[name] is None]
    if missing:
        raise ValueError(
            f"The {side} has None for {_called(missing, named)}, which the model needs. Give an "
            "array, or let the model be built with keras.Input(..., optional=True)."
        )
    if given:
        _check_shapes(side, model, named, given, given if isinstance(x, Mapping) else x)


def _check_names(
    side: str, model: keras.Model, named: Mapping[str, Any], needed: list[str], x: Mapping[Any, Any]
) -> None:
    missing = [name for name in needed if name not in x]
    if missing:
        unknown = [str(name) for name in x if name not in named]
        hint = did_you_mean(unknown[0], missing) if unknown else ""
        if "segment_ids" in missing:
            hint = " A task knows that its backbone takes them after build: make the data then."
        takes = _form_without_names(model, named) or _listed(named)
        raise ValueError(
            f"The {side} lacks {'' if _is_no_name(missing[0]) else 'the input '}"
            f"{_called(missing, named)}. The model takes {takes}. Received: "
            f"{_listed(x)}.{hint}"
        )
    # Keras sorts a dict by its keys and pairs them off: each input after one too many would get
    # another's array.
    extra = [name for name in x if name not in named and str(name) < max(named)]
    if extra and isinstance(functional_of(model)._inputs_struct, Mapping):
        raise ValueError(
            f"The {side} has {_listed(extra)}, which the model does not take. It takes "
            f"{_listed(named)}: leave the rest out of the dict of inputs."
        )


def input_symbols(model: keras.Model, x: Any) -> list[Any]:
    """Return Keras's symbol of the input that each array goes to.

    Args:
        model: The model.
        x: Arrays or specs: one, or a dict, list or tuple of them.

    Returns:
        A list in the order of `keras.tree.flatten(x)`; None for what goes to no input, or where
        that is not known.
    """
    named, paths = _named_inputs(model), keras.tree.flatten_with_path(x)
    if named is not None and isinstance(x, Mapping):
        return [named.get(path[0]) if len(path) == 1 else None for path, _ in paths]
    if named is not None and len(named) == len(paths):
        return list(named.values())
    return [None] * len(paths)


def takes_text(model: keras.Model, symbol: Any) -> bool:
    """Tell whether a model may take strings.

    Args:
        model: The model.
        symbol: From `input_symbols`.
    """
    if symbol is not None:
        return bool(symbol.dtype == "string")
    # What a `call` of its own takes is not known; a sequential model calls its first layer.
    is_sequential = type(model).call is keras.Sequential.call
    if functional_of(model) is not None or not is_sequential or not model.layers:
        return True
    module = type(model.layers[0]).__module__
    return not module.startswith("keras.") or ".preprocessing." in module


def _named_inputs(model: keras.Model) -> dict[str, Any] | None:
    """Keras's symbols of a model's inputs by name, in its flat order; None if not known."""
    functional = functional_of(model)
    if functional is None or not trains_as_keras(model):
        return None
    expected = functional._inputs_struct
    if not isinstance(expected, Mapping):
        return {symbol.name: symbol for symbol in functional.inputs}
    paths = keras.tree.flatten_with_path(dict(expected))
    if any(len(path) != 1 for path, _ in paths):
        return None  # A nest within a nest.
    return {path[0]: symbol for path, symbol in paths}


def _form_without_names(model: keras.Model, named: Mapping[str, Any]) -> str | None:
    """How to give a model its inputs if a dict of their names will not do."""
    expected = functional_of(model)._inputs_struct
    if isinstance(expected, Mapping):
        return None
    if any(len(path) > 1 for path, _ in keras.tree.flatten_with_path(expected)):
        return f"the nest {keras.tree.map_structure(lambda x: x.name, expected)}"
    if not any(map(_is_no_name, named)):
        return None
    return "one array" if len(named) == 1 else f"a list of {len(named)} arrays"


def _check_shapes(
    side: str, model: keras.Model, named: Mapping[str, Any], given: Mapping[str, Any], x: Any
) -> None:
    """Refuse arrays of another shape than the inputs have, unless the model takes them as well.

    A `Sequential` model takes rows of other lengths, and all take or leave a last axis of 1.
    """
    shapes = {name: known_shape(array) for name, array in given.items()}
    wrong = {
        name: shape
        for name, shape in shapes.items()
        if shape is not None and not _fits(shape, named[name].shape)
    }
    of_text = any(named[name].dtype == "string" for name in given)
    if not wrong or of_text or None in shapes.values() or _takes_rows_like(model, x):
        return
    expected = {name: ("batch", *named[name].shape[1:]) for name in wrong}
    lacks_rows = any(len(shape) < len(named[name].shape) for name, shape in wrong.items())
    hint = " The first axis must be the rows: dataset.batch(32), or x[None] for a single row."
    raise ValueError(
        f"The model takes {_with_shapes(expected, named)}, but the {side} has "
        f"{_with_shapes(wrong, named)}.{hint if lacks_rows else ''}"
    )


def known_shape(array: Any) -> tuple[int | None, ...] | None:
    """Return the shape of an array or a spec; None where not even its rank is known."""
    shape = getattr(array, "shape", None)
    if shape is None or getattr(shape, "rank", 0) is None:
        return None
    return tuple(shape)


def _fits(shape: tuple[int | None, ...], expected: tuple[int | None, ...]) -> bool:
    """Whether all sizes are the same that are known, but for the number of rows."""
    if len(shape) != len(expected):
        return False
    pairs = zip(shape[1:], expected[1:], strict=True)
    return all(None in pair or pair[0] == pair[1] for pair in pairs)


def _takes_rows_like(model: keras.Model, x: Any) -> bool:
    """Try it with two rows of ones; an axis of one row is dropped where Keras drops those of 1."""

    def rows_like(array: Any) -> Any:
        dtype = keras.backend.standardize_dtype(getattr(array, "dtype", None))
        return keras.ops.ones([2, *(size or 1 for size in tuple(array.shape)[1:])], dtype)

    try:
        model(keras.tree.map_structure(rows_like, x), training=False)
    except Exception:  # Each backend and layer raises its own.
        return False
    return True


def refuse_no_labels(side: str, model: keras.Model, loss: Any, *, in_batches: bool = False) -> None:
    """Refuse data that was found to have no labels, if the loss needs them.

    Args:
        side: What to call the data in an error.
        model: The model; one that trains in a way of its own may need no labels.
        loss: What `compile` was given.
        in_batches: Whether the data is a data set, not arrays.
    """
    if loss is None or not trains_as_keras(model):
        return
    fix = "fit(x, y)" if side == "training data" else "validation_data=(x, y)"
    if in_batches:
        fix = "a data set of (x, y)"
    raise ValueError(f"The {side} has no labels, which the loss compares with. Give {fix}.")


def trains_as_keras(model: keras.Model) -> bool:
    """Tell whether a model computes its loss and its steps as `keras.Model` does."""
    return not any(_is_own(model, name) for name in ("train_step", "compute_loss"))


def needs_loss(model: keras.Model) -> bool:
    """Tell whether nothing but the loss that `compile` is given could train a model.

    Args:
        model: The model; one that trains in a way of its own needs none, nor does one whose layers
            or regularizers add losses.
    """
    if not trains_as_keras(model) or model.losses:
        return False
    return not any(_may_add_losses(layer) for layer in model._flatten_layers())


def _may_add_losses(layer: keras.layers.Layer) -> bool:
    """Whether a layer has losses of its own; they are known only once it has run."""
    if getattr(layer, "activity_regularizer", None) is not None:
        return True
    if type(layer).__module__.split(".")[0] == "keras":
        return False
    try:
        return "add_loss" in inspect.getsource(sys.modules[type(layer).__module__])
    except (OSError, TypeError):  # There is no file of it, as in a notebook.
        return True


def own_step_method(model: keras.Model) -> str | None:
    """Return the first method of a model's own that is given inputs and labels in `fit`.

    Args:
        model: Any Keras model.

    Returns:
        Its name; None where all of them are those of `keras.Model`.
    """
    names = ("train_step", "test_step", "compute_loss", "compute_metrics")
    return next((name for name in names if _is_own(model, name)), None)


def _is_own(model: keras.Model, name: str) -> bool:
    changed = getattr(type(model), name) is not getattr(keras.Model, name)
    return changed or name in vars(model)


def _is_optional(symbol: Any) -> bool:
    history = getattr(symbol, "_keras_history", None)
    return bool(getattr(getattr(history, "operation", None), "optional", False))


def _with_shapes(shapes: Mapping[str, Any], named: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{_called([name], named)} of shape ({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"
        for name, shape in shapes.items()
    )


def _called(names: list[str], named: Mapping[str, Any]) -> str:
    """Call inputs by their names; one that its user gave no name, by its position."""

    def call(name: str) -> str:
        if not _is_no_name(name):
            return repr(name)
        position = list(named).index(name)
        which = _ORDINALS[position] if position < len(_ORDINALS) else f"number {position + 1}"
        return "an input" if len(named) == 1 else f"the {which} of {len(named)} inputs"

    return ", ".join(map(call, names))


def _is_no_name(name: str) -> bool:
    """Whether Keras made up the name of an input."""
    return re.fullmatch(r"keras_tensor(_\d+)?", name) is not None


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
