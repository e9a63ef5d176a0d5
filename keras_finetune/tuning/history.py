"""A record of every epoch over all calls of `fit`, and the data order that goes with it."""

import math
from dataclasses import dataclass
from typing import Any

import keras


@dataclass
class EpochCount:
    """How many epochs went before the next `fit`, those of a run that it resumes included.

    Attributes:
        passed: How many.
        before_broken: How many went before the latest fit, if that was broken off.
    """

    passed: int = 0
    before_broken: int | None = None


class EpochRecorder(keras.callbacks.Callback):
    """Add each epoch's metrics to a history, and tell the data which epoch it is.

    The order of rows of a data set of this library depends on the epoch's number alone, so that the
    number must go on from one `fit` to the next, and in a run that resumes one that was killed.

    Args:
        history: A dict of lists, one entry an epoch, which is added to.
        dataset: The data that is trained on.
        count: The epochs that went before, which is added to.
        initial_epoch: As for `keras.Model.fit`. A callback that restores a backup changes it.
    """

    def __init__(
        self,
        history: dict[str, list[float]],
        dataset: Any = None,
        *,
        count: EpochCount | None = None,
        initial_epoch: int = 0,
    ) -> None:
        super().__init__()
        self._history = history
        self._counter = getattr(dataset, "epochs", None)
        self._count = count or EpochCount()
        self._initial_epoch = initial_epoch
        self._offset: int | None = None  # From Keras's number of an epoch to the data's.
        self._number = 0
        self._unfinished = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Set the number of the epoch that the data carries out next."""
        self._number = self._number_of(epoch)
        if self._counter is not None:
            self._counter.next = self._number
        self._unfinished = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record the epoch."""
        self._add(logs or {})

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Count the epochs of a fit that had nothing left to do, since its backup was complete."""
        if self._offset is None:
            self._count.passed = self._number_of(self.model._initial_epoch or self._initial_epoch)
        self._count.before_broken = None

    def record_unfinished(self) -> None:
        """Record what is known of an epoch that was broken off."""
        if self._unfinished:
            self._add(self.model.get_metrics_result())

    def _add(self, logs: dict[str, Any]) -> None:
        add_epoch(self._history, logs)
        self._count.passed = self._number + 1
        self._unfinished = False

    def _number_of(self, epoch: int) -> int:
        """The data's number of an epoch; the first that is asked for is the first that runs."""
        if self._offset is None:
            before = self._count.passed
            if epoch != self._initial_epoch and self._count.before_broken is not None:
                before = self._count.before_broken
            self._count.before_broken = before
            self._offset = max(before - self._initial_epoch, 0)
        return self._offset + epoch


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
