"""Loading a saved model in a process that has not built one."""

import os
from typing import Any

import keras


def load_model(path: str | os.PathLike[str], **options: Any) -> keras.Model:
    """Load a `.keras` file whose model has layers of this library.

    The same as `keras.saving.load_model`, which finds the layers once `keras_finetune.models` has
    been imported; calling this function has done that.

    Args:
        path: The file.
        **options: Those of `keras.saving.load_model`.

    Returns:
        The model.

    Example:
        >>> import tempfile
        >>> from keras_finetune.models import cnn_encoder
        >>> path = tempfile.mkdtemp() + "/model.keras"
        >>> cnn_encoder(100, hidden_dim=16).save(path)
        >>> load_model(path).name
        'cnn_encoder'
    """
    return keras.saving.load_model(path, **options)
