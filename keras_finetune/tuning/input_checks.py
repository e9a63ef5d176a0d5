"""Checks that data has the inputs that a model takes, and labels."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_finetune.models.model_graph import functional_of
from keras_finetune.suggest import did_you_mean


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
    functional = functional_of(model)
    if functional is None or not trains_as_keras(model):
        return
    expected = functional._inputs_struct
    if isinstance(expected, Mapping):
        named = dict(expected)
    else:
        named = {symbol.name: symbol for symbol in functional.inputs}
    if any(not keras.utils.is_keras_tensor(symbol) for symbol in named.values()):
        return  # A nest within a nest.
    needed = [name for name, symbol in named.items() if not _is_optional(symbol)]
    if isinstance(x, Mapping):
        missing = [name for name in needed if name not in x]
        if missing:
            unknown = [str(name) for name in x if name not in named]
            hint = did_you_mean(unknown[0], missing) if unknown else ""
            raise ValueError(
                f"The {side} lacks the input {_listed(missing)}. The model takes {_listed(named)}. "
                f"Received: {_listed(x)}.{hint}"
            )
        # Keras sorts a dict by its keys and pairs them off: each input after one too many would get
        # another's array.
        extra = [name for name in x if name not in named and str(name) < max(named)]
        if extra and isinstance(expected, Mapping):
            raise ValueError(
                f"The {side} has {_listed(extra)}, which the model does not take. It takes "
                f"{_listed(named)}: leave the rest out of the dict of inputs."
            )
        given = {name: x[name] for name in named if name in x}
        _check_shapes(side, model, named, given, given)
        return
    flat = keras.tree.flatten(x)
    count = len(flat)
    if not len(needed) <= count <= len(named):
        shown = ", ".join(f"{name!r}: ..." for name in named)
        raise ValueError(
            f"The model takes {len(named)} input(s), but the {side} has {count} of no name. Give a "
            f"dict: {{{shown}}}."
        )
    if count == len(named):
        _check_shapes(side, model, named, dict(zip(named, flat, strict=True)), x)


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
    if not wrong or None in shapes.values() or _takes_rows_like(model, x):
        return
    expected = {name: ("batch", *named[name].shape[1:]) for name in wrong}
    lacks_rows = any(len(shape) < len(named[name].shape) for name, shape in wrong.items())
    hint = " The first axis must be the rows: dataset.batch(32), or x[None] for a single row."
    raise ValueError(
        f"The model takes {_with_shapes(expected)}, but the {side} has {_with_shapes(wrong)}."
        f"{hint if lacks_rows else ''}"
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


def _with_shapes(shapes: Mapping[str, Any]) -> str:
    def shown(shape: tuple[Any, ...]) -> str:
        return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"

    return ", ".join(f"{name!r} of shape {shown(shape)}" for name, shape in shapes.items())


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
