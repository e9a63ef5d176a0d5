"""Pictures of a report and of a training run."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_finetune.evaluation.classification import ClassificationReport


def plot_confusion_matrix(report: ClassificationReport, *, ax: Any = None) -> Any:
    """Draw which labels are taken for which.

    Args:
        report: From `classification_report`, one label a row.
        ax: The matplotlib axes to draw on; new ones if None.

    Returns:
        The axes.

    Example:
        >>> import matplotlib
        >>> matplotlib.use("Agg")
        >>> from keras_finetune.evaluation import classification_report
        >>> plot_confusion_matrix(classification_report([0, 1], [0, 0])).get_xlabel()
        'Predicted'
    """
    if report.confusion_matrix is None:
        raise ValueError("A report of several labels a row has no confusion matrix to plot.")
    ax = ax or _new_axes()
    names = [scores.label for scores in report.per_class]
    ax.imshow(report.confusion_matrix, cmap="Blues")
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right")
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("Predicted")
    ax.set_ylabel("Label")
    middle = report.confusion_matrix.max() / 2
    for row, values in enumerate(report.confusion_matrix):
        for column, value in enumerate(values):
            color = "white" if value > middle else "black"
            ax.text(column, row, f"{value:,}", ha="center", va="center", color=color)
    return ax


def plot_history(history: Any, *, metric: str = "loss", ax: Any = None) -> Any:
    """Draw a metric over the epochs, on training and validation data.

    Args:
        history: `FineTuner.history`, a Keras `History`, or a dict of lists.
        metric: Which of its lists.
        ax: The matplotlib axes to draw on; new ones if None.

    Returns:
        The axes.

    Example:
        >>> import matplotlib
        >>> matplotlib.use("Agg")
        >>> ax = plot_history({"loss": [1.0, 0.5], "val_loss": [1.1, 0.9]})
        >>> [line.get_label() for line in ax.lines]
        ['loss', 'val_loss']
    """
    values: Mapping[str, Sequence[float]] = getattr(history, "history", history)
    if metric not in values:
        raise ValueError(f"The history has no {metric!r}. It has: {', '.join(values) or 'nothing'}")
    ax = ax or _new_axes()
    for name in (metric, f"val_{metric}"):
        if name in values:
            ax.plot(range(1, len(values[name]) + 1), values[name], marker="o", label=name)
    ax.set_xlabel("Epoch")
    ax.set_ylabel(metric)
    ax.legend()
    return ax


def _new_axes() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ImportError(
            "Plots need matplotlib: pip install keras_finetune[plots], or pip install matplotlib"
        ) from None
    return pyplot.subplots()[1]
