"""A record of every epoch over all calls of `fit`, and the data order that goes with it."""

import math
from typing import Any

import keras


class EpochRecorder(keras.callbacks.Callback):
    """Add each epoch's metrics to a history, and tell the data which epoch it is.

    The order of rows of a data set of this library depends on the epoch's number alone, so that the
    number must go on from one `fit` to the next.

    Args:
        history: A dict of lists, one entry an epoch, which is added to.
        dataset: The data that is trained on.
    """

    def __init__(self, history: dict[str, list[float]], dataset: Any = None) -> None:
        super().__init__()
        self._history = history
        self._counter = getattr(dataset, "epochs", None)
        self._unfinished = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Set the number of the epoch that the data carries out next."""
        if self._counter is not None:
            self._counter.next = num_epochs(self._history)
        self._unfinished = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record the epoch."""
        add_epoch(self._history, logs or {})
        self._unfinished = False

    def record_unfinished(self) -> None:
        """Record what is known of an epoch that was broken off."""
        if self._unfinished:
            add_epoch(self._history, self.model.get_metrics_result())
            self._unfinished = False


def num_epochs(history: dict[str, list[float]]) -> int:
    """Return how many epochs a history holds."""
    return max((len(values) for values in history.values()), default=0)


def add_epoch(history: dict[str, list[float]], logs: dict[str, Any]) -> None:
    """Add an epoch; a metric that an epoch lacks is NaN there, so that all lists are as long.

    Example:
        >>> history = {}
        >>> add_epoch(history, {"loss": 1.0})
        >>> add_epoch(history, {"loss": 0.5, "val_loss": 0.7})
        >>> history
        {'loss': [1.0, 0.5], 'val_loss': [nan, 0.7]}
    """
    past = num_epochs(history)
    for name in {**history, **logs}:
        values = history.setdefault(name, [math.nan] * past)
        values.append(float(logs[name]) if name in logs else math.nan)
