"""Stop where the loss stops being a number, and say where and why."""

import math
from typing import Any

import keras
import numpy as np


class NaNLossGuard(keras.callbacks.Callback):
    """Raise at the first batch whose loss is NaN or infinite.

    `keras.callbacks.TerminateOnNaN` names the batch; this also names the rows in it, if the data
    came from `keras_finetune.data`, and the likely cause.

    Args:
        dataset: The data that is trained on; one of ours knows its plan.

    Raises:
        FloatingPointError: From `fit`, after the first such batch.
    """

    def __init__(self, dataset: Any = None) -> None:
        super().__init__()
        # With JAX, Keras lets callbacks look at a step in another thread, while the next ones run.
        self.async_safe = keras.backend.backend() == "jax"
        self._dataset = dataset
        self._epoch = 0
        self._found: tuple[int, float] | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note the epoch."""
        self._epoch, self._found = epoch, None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Check the running loss."""
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss) and self._found is None:
            self._found = batch, loss
        if not self.async_safe:
            self._raise_if_found()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Raise what was found meanwhile, in the thread of `fit`."""
        self._raise_if_found()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Raise what was found in the last steps."""
        self._raise_if_found()

    def _raise_if_found(self) -> None:
        if self._found is None:
            return
        batch, loss = self._found
        first = max(batch + 1 - self.model.steps_per_execution, 0)
        where = f"step {batch + 1}" if first == batch else f"steps {first + 1} to {batch + 1}"
        raise FloatingPointError(
            f"The loss is {loss} at epoch {self._epoch + 1}, {where}{self._rows(first, batch)}. "
            f"{self._cause()}"
        )

    def _rows(self, first: int, last: int) -> str:
        plan = getattr(self._dataset, "plan", None)
        if plan is None:
            return ""
        batches = list(plan(self._dataset.epochs.next - 1))[first : last + 1]
        rows = np.concatenate([batch.rows for batch in batches])
        shown = ", ".join(str(row) for row in rows[:8].tolist())
        return f" (rows {shown}{', ...' if len(rows) > 8 else ''})"

    def _cause(self) -> str:
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        bad = next(
            (
                variable.path
                for variable in self.model.trainable_variables
                if not np.isfinite(np.asarray(keras.ops.convert_to_numpy(variable))).all()
            ),
            None,
        )
        optimizer = self.model.optimizer
        rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        clips = any((optimizer.clipnorm, optimizer.clipvalue, optimizer.global_clipnorm))
        clip = "" if clips else " and clip gradients: an optimizer with global_clipnorm=1.0"
        where = f"The weights {bad!r} are no longer finite" if bad else "The weights are finite"
        return (
            f"{where}. The learning rate is {rate:.3g}: if that is high for this model, lower it "
            f"or warm up (warmup=0.1){clip}. Otherwise look at the batch's features and sample "
            "weights for NaN."
        )
