"""Refusing a data set that turns out to be empty."""

from typing import Any, NoReturn

import keras


class EmptyDataGuard(keras.callbacks.Callback):
    """Raise a `ValueError` at the end of a first epoch of no steps, for which Keras says nothing.

    Only reading it tells how many batches a filtered `tf.data.Dataset` has, and that is not done
    ahead of the fit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.async_safe = keras.backend.backend() == "jax"  # See `NaNLossGuard`.
        self._is_empty = True

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Note that there is a batch."""
        self._is_empty = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Raise if no batch came."""
        if self._is_empty:
            refuse_empty("training data")


def refuse_empty(side: str) -> NoReturn:
    """Raise the error of a data set that gave no batch.

    Args:
        side: What to call it in the error.
    """
    raise ValueError(
        f"The {side} is empty: the data set gave no batch. Look for a filter that lets nothing "
        "pass, drop_remainder=True with fewer rows than a batch has, or a generator that is used "
        "up."
    )
