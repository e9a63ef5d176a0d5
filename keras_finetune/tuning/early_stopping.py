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

    Raises:
        ValueError: It is something else, or watches validation data that there is not.
    """
    if isinstance(early_stopping, keras.callbacks.EarlyStopping):
        if early_stopping.monitor.startswith("val_") and not validated:
            raise ValueError(
                f"early_stopping looks at {early_stopping.monitor!r}, which needs validation_data "
                'or validation_split. Give one, or let it look at "loss".'
            )
        return [early_stopping]
    if not isinstance(early_stopping, bool):
        raise ValueError(
            "early_stopping must be True, False or a keras.callbacks.EarlyStopping. Received: "
            f'{early_stopping!r}. For a patience of 3 epochs: EarlyStopping("val_loss", '
            "patience=3, restore_best_weights=True)."
        )
    own = any(isinstance(callback, keras.callbacks.EarlyStopping) for callback in callbacks)
    if not early_stopping or not validated or own:
        return []
    return [
        keras.callbacks.EarlyStopping(
            monitor="val_loss", mode="min", patience=3, restore_best_weights=True
        )
    ]
