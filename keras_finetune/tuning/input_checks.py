"""Checks that data has the inputs that a model takes, and labels."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_finetune.models.model_graph import model_graph
from keras_finetune.suggest import did_you_mean


def check_inputs(side: str, model: keras.Model, x: Any) -> None:
    """Refuse data that lacks inputs of a functional or sequential model, or has too many.

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
    if model_graph(model) is None or not trains_as_keras(model):
        return
    functional = getattr(model, "_functional", None) or model
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
        return
    count = len(keras.tree.flatten(x))
    if not len(needed) <= count <= len(named):
        shown = ", ".join(f"{name!r}: ..." for name in named)
        raise ValueError(
            f"The model takes {len(named)} input(s), but the {side} has {count} of no name. Give a "
            f"dict: {{{shown}}}."
        )


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
    names = ("train_step", "compute_loss")
    return all(getattr(type(model), name) is getattr(keras.Model, name) for name in names)


def _is_optional(symbol: Any) -> bool:
    history = getattr(symbol, "_keras_history", None)
    return bool(getattr(getattr(history, "operation", None), "optional", False))


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
