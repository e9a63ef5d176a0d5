"""Writing a tuned model: weights and architecture, without what only training needed."""

import os
import secrets
from pathlib import Path

import keras

from keras_finetune.models.arguments import check_directory, checked_path


def save_without_optimizer(model: keras.Model, path: "str | os.PathLike[str]") -> Path:
    """Write a model to a `.keras` file without its optimizer.

    Adam's moments make a file three times as large, and a model that is loaded to predict has no
    use for them. The file appears under its name only when it is complete.

    Args:
        model: A built Keras model; it stays compiled.
        path: Where to write; must end in `.keras`. Missing folders are made.

    Returns:
        The path.
    """
    path = checked_path("path", path)
    if path.suffix != ".keras":
        raise ValueError(f"The path must end in .keras. Received: {str(path)!r}")
    check_directory(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}-{secrets.token_hex(4)}.keras")
    optimizer, compiled = getattr(model, "optimizer", None), model.compiled
    try:
        model.optimizer, model.compiled = None, False
        model.save(unfinished)
        os.replace(unfinished, path)
    finally:
        model.optimizer, model.compiled = optimizer, compiled
        unfinished.unlink(missing_ok=True)
    return path
