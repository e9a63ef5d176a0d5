"""Models that carry a preprocessor of their own, as KerasHub's tasks do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras


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
