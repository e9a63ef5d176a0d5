"""Loading saved models in a process that has built none."""

import os
from typing import Any

import keras

# Keras finds a layer, metric or optimizer in a file once the module that defines it is imported.
import keras_finetune.evaluation.f1_score
import keras_finetune.models
import keras_finetune.models.smoothed_crossentropy
import keras_finetune.models.token_accuracy
import keras_finetune.tuning.grouped_optimizer
import keras_finetune.tuning.schedules  # noqa: F401


def load_model(path: str | os.PathLike[str], **options: Any) -> keras.Model:
    """Load a `.keras` file whose model has layers of this library.

    The same as `keras.saving.load_model`, which finds what this library defines once that has been
    imported; calling this function has done that.

    Args:
        path: The file.
        **options: Those of `keras.saving.load_model`.

    Returns:
        The model.

    Raises:
        ValueError: `path` is a folder, which another function reads.

    Example:
        >>> import tempfile
        >>> from keras_finetune.models import cnn_encoder
        >>> path = tempfile.mkdtemp() + "/model.keras"
        >>> cnn_encoder(100, hidden_dim=16).save(path)
        >>> load_model(path).name
        'cnn_encoder'
    """
    if os.path.isdir(path):
        raise ValueError(
            f"load_model reads a .keras file. Received the folder {str(path)!r}. Use "
            "keras_finetune.tasks.load for one that tasks.save wrote, load_pretrained for one in "
            "Hugging Face's format."
        )
    return keras.saving.load_model(path, **options)
