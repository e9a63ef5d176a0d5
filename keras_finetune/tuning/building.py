"""Bringing a model to where its variables can be counted."""

from typing import Any

import keras

from keras_finetune.tuning.data_kinds import first_batch
from keras_finetune.tuning.selection import layer_paths


def build(model: keras.Model, x: Any) -> None:
    """Build a model that is not built, by calling it on one batch.

    Args:
        model: Any Keras model; Functional ones are built already.
        x: What goes into `fit`.
    """
    of_a_graph = bool(getattr(model, "inputs", None))
    if model.built and (of_a_graph or all(x.built for x in layer_paths(model).values())):
        return
    batch = first_batch(x)
    model(batch[0] if isinstance(batch, tuple) else batch)
