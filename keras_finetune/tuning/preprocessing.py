"""Models that carry a preprocessor of their own, as KerasHub's tasks do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_finetune.tuning.data_kinds import FitData


@contextmanager
def without_preprocessor(model: keras.Model, data: Any) -> Iterator[None]:
    """Take a model's preprocessor away while data runs that has been through it already.

    Args:
        model: Any Keras model.
        data: What runs; a data set with the attribute `preprocessed`, from
            `keras_finetune.tasks.keras_hub_dataset`, needs no preprocessor.
    """
    preprocessor = getattr(model, "preprocessor", None)
    if preprocessor is None or not getattr(data, "preprocessed", False):
        yield
        return
    model.preprocessor = None
    try:
        yield
    finally:
        model.preprocessor = preprocessor


def lists_as_arrays(model: keras.Model, data: FitData) -> FitData:
    """Make arrays of Python lists, where a preprocessor takes them.

    Args:
        model: Any Keras model; without a preprocessor the data stays as it is.
        data: What goes into `fit`; as in KerasHub, each list is one array.
    """
    if getattr(model, "preprocessor", None) is None:
        return data
    fit_args = data.fit_args
    if fit_args.get("sample_weight") is not None:
        fit_args = {**fit_args, "sample_weight": _as_arrays(fit_args["sample_weight"])}
    x, y, validation_data = map(_as_arrays, (data.x, data.y, data.validation_data))
    return FitData(x, y, validation_data, fit_args)


def _as_arrays(x: Any) -> Any:
    if isinstance(x, tuple):
        return tuple(map(_as_arrays, x))
    if isinstance(x, dict):
        return {name: _as_arrays(value) for name, value in x.items()}
    if not _is_list_of_values(x):
        return x
    # NumPy's own strings would all be as long as the longest.
    return np.array(x, object if x and isinstance(x[0], str | bytes) else None)


def _is_list_of_values(x: Any) -> bool:
    values = (str, bytes, int, float, np.generic)
    return isinstance(x, list) and all(isinstance(e, values) or _is_list_of_values(e) for e in x)
