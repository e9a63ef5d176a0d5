"""Early stopping by default, where there is validation data."""

from collections.abc import Sequence

import keras


def early_stopping_callbacks(
    early_stopping: "bool | keras.callbacks.EarlyStopping",
    validated: bool,
    callbacks: Sequence[keras.callbacks.Callback],
) -> list[keras.callbacks.EarlyStopping]:
    """Return the early stopping that a fit gets besides the user's callbacks.

    Args:
        early_stopping: True for the default: three epochs of patience, best weights restored.
        validated: Whether the fit has validation data.
        callbacks: The user's callbacks; an `EarlyStopping` among them stands in for the default.
    """
    if isinstance(early_stopping, keras.callbacks.EarlyStopping):
        return [early_stopping]
    own = any(isinstance(callback, keras.callbacks.EarlyStopping) for callback in callbacks)
    if not early_stopping or not validated or own:
        return []
    return [
        keras.callbacks.EarlyStopping(
            monitor="val_loss", mode="min", patience=3, restore_best_weights=True
        )
    ]
