"""Precision, recall and F1 by class, and what follows from them."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rich.console
from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True)
class ClassScores:
    """How well one class is told from the others; `support` is the number of its rows."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class ClassificationReport:
    """Scores of a classification.

    Attributes:
        accuracy: Share of the rows that are right; of rows with all labels right if a row may have
            several.
        macro_f1: Mean of the classes' F1.
        micro_f1: F1 of all decisions together; the accuracy, if every row has one label.
        weighted_f1: Mean of the classes' F1, each weighing as much as it has rows.
        per_class: Scores of each class.
        confusion_matrix: (classes, classes) int, rows are labels, columns predictions; None if a
            row may have several labels.
    """

    accuracy: float
    macro_f1: float
    micro_f1: float
    weighted_f1: float
    per_class: tuple[ClassScores, ...]
    confusion_matrix: np.ndarray | None

    def table(self, title: str | None = None) -> Table:
        """Return the report as a table: a line a class, then the means."""
        table = Table(title=title and escape(title))
        table.add_column("Class")
        for name in ("Precision", "Recall", "F1", "Rows"):
            table.add_column(name, justify="right")
        for scores in self.per_class:
            shares = (scores.precision, scores.recall, scores.f1)
            shown = (*(f"{x:.3f}" for x in shares), f"{scores.support:,}")
            table.add_row(escape(scores.label), *shown)
        table.add_section()
        rows = f"{sum(scores.support for scores in self.per_class):,}"
        for name in ("macro_f1", "micro_f1", "weighted_f1", "accuracy"):
            title_of = name.replace("_f1", " F1")
            table.add_row(title_of, "", "", f"{getattr(self, name):.3f}", rows)
        return table

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain numbers, lists and dicts, as JSON takes them."""
        matrix = self.confusion_matrix
        return {
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "micro_f1": self.micro_f1,
            "weighted_f1": self.weighted_f1,
            "per_class": {
                scores.label: {
                    "precision": scores.precision,
                    "recall": scores.recall,
                    "f1": scores.f1,
                    "support": scores.support,
                }
                for scores in self.per_class
            },
            "confusion_matrix": None if matrix is None else matrix.tolist(),
        }

    def __str__(self) -> str:
        file = io.StringIO()
        rich.console.Console(file=file, width=100).print(self.table())
        return file.getvalue()


def classification_report(
    labels: Any,
    predictions: Any,
    *,
    label_names: Sequence[str] | None = None,
    threshold: float = 0.5,
) -> ClassificationReport:
    """Compare predictions with labels.

    A share whose denominator is 0 counts as 0: the precision of a class that is never predicted,
    the recall of one that never occurs. Every class counts in the means: all of `label_names`, or
    those that occur in labels or predictions.

    Args:
        labels: (rows,) int class numbers; or (rows, classes) of 0 and 1 if a row may have several.
        predictions: (rows,) int class numbers, or (rows, classes) scores, of which the greatest
            counts; with several labels a row, those above `threshold`. A single column of scores,
            (rows, 1), says class 1 above `threshold`, else class 0.
        label_names: The name of each class; its number if None.
        threshold: float, used with several labels a row or a single column of scores; 0 is right
            for logits.

    Returns:
        A `ClassificationReport`.

    Raises:
        ValueError: There are no rows, shapes differ, a score is NaN, or a class has no name of its
            own.

    Example:
        >>> report = classification_report([0, 0, 1, 1], [0, 1, 1, 1], label_names=["ham", "spam"])
        >>> report.accuracy, round(report.macro_f1, 3)
        (0.75, 0.733)
        >>> report.confusion_matrix.tolist()
        [[1, 1], [0, 2]]
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if len(labels) == 0 or len(labels) != len(predictions):
        raise ValueError(
            "labels and predictions must have as many rows, at least one. Received: "
            f"{len(labels)} labels, {len(predictions)} predictions."
        )
    if predictions.ndim == 2 and predictions.dtype.kind == "f":
        _check_scores(predictions)
    if labels.ndim == 2:
        return _several(labels, predictions, label_names, threshold)
    if predictions.ndim == 2:
        predictions = _classes(labels, predictions, threshold)
    for name, values in (("labels", labels), ("predictions", predictions)):
        if values.ndim != 1 or values.dtype.kind not in "iub" or (values.astype(int) < 0).any():
            raise ValueError(
                f"{name} must be whole class numbers of shape (rows,). Received: dtype "
                f"{values.dtype}, shape {values.shape}, first {values.reshape(-1)[0]!r}."
            )
    labels, predictions = labels.astype(np.int64), predictions.astype(np.int64)
    highest = int(max(labels.max(), predictions.max()))
    names = _names(label_names, highest + 1)
    matrix = np.bincount(labels * len(names) + predictions, minlength=len(names) ** 2)
    matrix = matrix.reshape(len(names), len(names))
    hits = np.diagonal(matrix)
    occurs = matrix.sum(axis=0) + matrix.sum(axis=1) > 0
    counted = np.ones(len(names), bool) if label_names is not None else occurs
    accuracy = float(hits.sum() / len(labels))
    return _report(hits, matrix.sum(axis=0), matrix.sum(axis=1), names, counted, accuracy, matrix)


def _check_scores(scores: np.ndarray) -> None:
    rows = np.flatnonzero(np.isnan(scores).any(axis=1))
    if len(rows):
        raise ValueError(
            f"predictions must be numbers. Received: NaN in row {rows[0]} ({len(rows)} rows in "
            "all). Look for NaN in the model's weights or inputs."
        )


def _classes(labels: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    if scores.shape[1] > 1:
        return scores.argmax(axis=1)
    if scores.dtype.kind != "f":  # class numbers
        return scores[:, 0]
    if labels.max() > 1:
        raise ValueError(
            f"A single column of scores tells class 0 from class 1. Received: label "
            f"{labels.max()}. Give class numbers, or a column of scores for each class."
        )
    return (scores[:, 0] > threshold).astype(np.int64)


def _several(
    labels: np.ndarray,
    predictions: np.ndarray,
    label_names: Sequence[str] | None,
    threshold: float,
) -> ClassificationReport:
    if predictions.shape != labels.shape or not np.isin(labels, (0, 1)).all():
        raise ValueError(
            "With several labels a row, labels are 0 or 1 and predictions have the same shape. "
            f"Received: labels {labels.shape}, predictions {predictions.shape}."
        )
    given, said = labels.astype(bool), predictions > threshold
    names = _names(label_names, labels.shape[1])
    accuracy = float((given == said).all(axis=1).mean())
    hits = (given & said).sum(axis=0)
    counted = np.ones(len(names), bool)
    return _report(hits, said.sum(axis=0), given.sum(axis=0), names, counted, accuracy, None)


def _report(
    hits: np.ndarray,
    predicted: np.ndarray,
    support: np.ndarray,
    names: Sequence[str],
    counted: np.ndarray,
    accuracy: float,
    matrix: np.ndarray | None,
) -> ClassificationReport:
    precision, recall = _share(hits, predicted), _share(hits, support)
    f1 = _share(2 * hits, predicted + support)
    scores = tuple(
        ClassScores(name, float(p), float(r), float(f), int(n))
        for name, p, r, f, n in zip(names, precision, recall, f1, support, strict=True)
    )
    return ClassificationReport(
        accuracy=accuracy,
        macro_f1=float(f1[counted].mean()),
        micro_f1=float(_share(2 * hits.sum(), predicted.sum() + support.sum())),
        weighted_f1=float(_share((f1 * support).sum(), support.sum())),
        per_class=scores,
        confusion_matrix=matrix,
    )


def _share(part: Any, whole: Any) -> np.ndarray:
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


def _names(label_names: Sequence[str] | None, classes: int) -> list[str]:
    if label_names is None:
        return [str(number) for number in range(classes)]
    if len(label_names) < classes:
        raise ValueError(
            f"There are {len(label_names)} label_names, but class {classes - 1} occurs, which "
            f"needs {classes}. Received: {list(label_names)}"
        )
    names = [str(name) for name in label_names]
    if len(set(names)) < len(names):
        raise ValueError(f"label_names must differ. Received: {list(label_names)}")
    return names
