"""Checks of builder and layer arguments, made before anything is built."""

import math
import os
from collections.abc import Iterable
from numbers import Real
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_finetune.suggest import did_you_mean


def check_keras_model(what: str, model: Any) -> None:
    """Require a Keras model.

    Args:
        what: What needs it, at the start of a sentence.
        model: What was received.

    Raises:
        ValueError: It is none; if it is a `FineTuner`, the message says where its model is.
    """
    if isinstance(model, keras.Model):
        return
    has_model = isinstance(getattr(model, "model", None), keras.Model)
    give = "its attribute `model`" if has_model else "such a model"
    raise ValueError(f"{what} needs a Keras model. Received {type(model).__name__}. Give {give}.")


def checked_path(name: str, value: Any) -> Path:
    """Return what was given as a path as one.

    Args:
        name: The argument's name.
        value: What was received.

    Raises:
        ValueError: It is no path.
    """
    if not isinstance(value, str | os.PathLike):
        hint = " The model comes before it." if isinstance(value, keras.Model) else ""
        raise ValueError(
            f"{name} must be a path, a str or a pathlib.Path. Received: {value!r:.80}.{hint}"
        )
    return Path(value)


def check_directory(directory: Path) -> None:
    """Require a directory, which need not exist yet, to have no file in its place or above it.

    Args:
        directory: The place.

    Raises:
        ValueError: There is one.
    """
    for place in (directory, *directory.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f'"{place}" is a file; a directory is needed.')


def check_positive(**values: Any) -> None:
    """Require every value to be an int of at least 1.

    Args:
        **values: The values by argument name.

    Raises:
        ValueError: A value is no int, or is below 1.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an int of at least 1. Received: {name}={value!r}.")


def check_above_zero(**values: Any) -> None:
    """Require every value to be a number above 0.

    Args:
        **values: The values by argument name.

    Raises:
        ValueError: A value is no number, infinite, or not above 0.
    """
    for name, value in values.items():
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not is_number or not 0 < value < math.inf:
            raise ValueError(f"{name} must be a number above 0. Received: {value!r}.")


def check_flag(**values: Any) -> None:
    """Require every value to be True or False, Python's or NumPy's.

    Args:
        **values: The values by argument name.

    Raises:
        ValueError: A value is neither.
    """
    for name, value in values.items():
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name} must be True or False. Received: {value!r}.")


def check_rate(**values: Any) -> None:
    """Require every value to be a dropout rate.

    Args:
        **values: The values by argument name.

    Raises:
        ValueError: A value is outside [0, 1).
    """
    for name, value in values.items():
        if not isinstance(value, int | float) or not 0 <= value < 1:
            raise ValueError(
                f"{name} must be a number from 0 (off) to below 1. Received: {name}={value!r}."
            )


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Require a value to be one of a few names.

    Args:
        name: The argument's name.
        value: What was received.
        choices: The names that are allowed.

    Raises:
        ValueError: The value is none of them; the message names the nearest.
    """
    choices = list(choices)
    if value not in choices:
        known = ", ".join(f'"{choice}"' for choice in choices)
        raise ValueError(
            f"{name} must be one of {known}. Received: {name}={value!r}."
            f"{did_you_mean(str(value), choices)}"
        )
