"""What the latest fit did: its speed, its padding, how often it was traced."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
from rich.table import Table


@dataclass(frozen=True)
class FitReport:
    """How a fit went; `rich.print` shows a table.

    Attributes:
        epochs: Epochs that were finished.
        steps: Steps of an epoch; None if the data does not say.
        rows: Rows of an epoch; None if the data does not say.
        seconds: All of the fit.
        first_step_seconds: From its beginning to the end of its first step, or of the first few
            where several run at a time; checks, tracing, and running frozen layers once are in it.
        padding_share: Share of the computed tokens that was padding; None if the data does not say.
        steps_per_execution: Steps between which Python was not asked.
        traces: How often a training step was traced; None where steps are not traced (PyTorch).
    """

    epochs: int
    steps: int | None
    rows: int | None
    seconds: float
    first_step_seconds: float
    padding_share: float | None
    steps_per_execution: int
    traces: int | None

    @property
    def samples_per_second(self) -> float | None:
        """Rows a second over the whole fit."""
        return None if self.rows is None else self.rows * self.epochs / max(self.seconds, 1e-9)

    def __rich__(self) -> Table:
        table = Table(title="Fit", show_header=False)
        lines = {
            "epochs": f"{self.epochs}",
            "time": f"{self.seconds:.1f} s, the first step after {self.first_step_seconds:.1f} s",
            "rows a second": _shown(self.samples_per_second, ",.1f"),
            "padding": _shown(self.padding_share, ".1%") + " of the computed tokens",
            "steps": f"{_shown(self.steps, ',')} an epoch, {self.steps_per_execution} at a time",
            "traces of a step": _shown(self.traces, ","),
        }
        for name, value in lines.items():
            table.add_row(name, value)
        return table


class FitMeter(keras.callbacks.Callback):
    """Measure a fit.

    Args:
        started: When it began, by `time.perf_counter`.
        dataset: The data that is trained on.
        traces: Grows by one with each tracing of a step.

    Attributes:
        epochs: Epochs that were finished so far.
    """

    def __init__(self, started: float, dataset: Any, traces: list[None]) -> None:
        super().__init__()
        self.async_safe = keras.backend.backend() == "jax"  # See `NaNLossGuard`.
        self.epochs = 0
        self._started = started
        self._first: float | None = None
        self._plan = getattr(dataset, "plan", None)
        self._traces = traces

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Note the end of the first step."""
        if self._first is None:
            self._first = time.perf_counter() - self._started

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Count the epoch."""
        self.epochs += 1

    def report(self) -> FitReport:
        """Say what was measured up to now."""
        seconds = time.perf_counter() - self._started
        plan = None if self._plan is None else self._plan(0)
        steps = (self.params or {}).get("steps")
        return FitReport(
            epochs=self.epochs,
            steps=steps,
            rows=None if plan is None else int(plan.sizes[:steps].sum()),
            seconds=seconds,
            first_step_seconds=seconds if self._first is None else self._first,
            padding_share=None if plan is None else plan.padding_share,
            steps_per_execution=int(self.model.steps_per_execution),
            traces=len(self._traces) if _traces() else None,
        )


@contextmanager
def counted_traces(model: keras.Model) -> Iterator[list[None]]:
    """Yield a list that grows with each tracing of the model's forward pass in training.

    Where steps are compiled, Python runs a model's `call` once for each shape that is traced. With
    PyTorch the list stays empty: `torch.compile` would compile a `call` that counts at every step.
    """
    traces: list[None] = []
    if not _traces():
        yield traces
        return
    call = model.call

    def counting(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("training"):
            traces.append(None)
        return call(*args, **kwargs)

    has_own = "call" in vars(model)
    object.__setattr__(model, "call", counting)
    try:
        yield traces
    finally:
        if has_own:
            object.__setattr__(model, "call", call)
        else:
            object.__delattr__(model, "call")


def _traces() -> bool:
    return keras.backend.backend() != "torch"


def _shown(value: float | None, form: str) -> str:
    return "not known" if value is None else format(value, form)
