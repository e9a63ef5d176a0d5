"""Exact match and F1 of answers, as SQuAD counts them."""

import dataclasses
import io
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import rich.console
from rich.markup import escape
from rich.table import Table

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CHINESE = r"\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# One Chinese character, or a stretch of anything else without white space.
_CHARACTERS = re.compile(rf"[{_CHINESE}]|[^\s{_CHINESE}]+")


@dataclasses.dataclass(frozen=True)
class SquadScores:
    """How well answers agree with those that people gave.

    Attributes:
        exact_match: Per cent of the questions whose answer is one of the references.
        f1: Mean overlap with the nearest reference, per cent.
        total: Number of questions.
        has_answer: The same of the questions that have an answer; None where all have one.
        no_answer: The same of those that have none; None where all have one.
        inexact: Questions none of whose references is a whole number of tokens, so that a model
            cannot match one exactly; None where that is not known.
    """

    exact_match: float
    f1: float
    total: int
    has_answer: "SquadScores | None" = None
    no_answer: "SquadScores | None" = None
    inexact: int | None = None

    def table(self, title: str | None = None) -> Table:
        """Return the scores as a table: all questions, then those with and without an answer."""
        table = Table(title=title and escape(title))
        table.add_column("Questions")
        for name in ("Exact match", "F1", "Count"):
            table.add_column(name, justify="right")
        lines = {"all": self, "with an answer": self.has_answer, "without one": self.no_answer}
        for name, scores in lines.items():
            if scores is not None:
                shares = (scores.exact_match, scores.f1)
                table.add_row(name, *(f"{x:.2f}" for x in shares), f"{scores.total:,}")
        return table

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as plain numbers and dicts, as JSON takes them."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: value.as_dict() if isinstance(value, SquadScores) else value
            for name, value in found.items()
            if value is not None
        }

    def __str__(self) -> str:
        file = io.StringIO()
        rich.console.Console(file=file, width=100).print(self.table())
        return file.getvalue()


def squad_scores(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    version: str = "2.0",
    f1_by: str = "words",
) -> SquadScores:
    """Compare predicted answers with references.

    Case, ASCII punctuation, the articles a, an, the, and white space do not count. Of several
    references the best one counts. An empty prediction says that there is no answer.

    Source: [SQuAD](https://arxiv.org/abs/1606.05250),
    [SQuAD 2.0](https://arxiv.org/abs/1806.03822); for characters
    [MLQA](https://arxiv.org/abs/1910.07475).

    Args:
        predictions: An answer a question.
        references: The right answers of each question, in the same order; none of a question that
            has no answer.
        version: ``"1.1"`` or ``"2.0"``, whose script to agree with. They differ in answers that
            are nothing but articles and punctuation: 1.1 gives them an F1 of 0; 2.0 leaves such
            references out, and takes such a prediction for an empty one. Only 2.0 has questions
            without an answer.
        f1_by: What the F1 counts: ``"words"``, or ``"characters"`` for Chinese: each Chinese
            character is a word, the punctuation of Unicode goes as well, and articles stay.

    Returns:
        Exact match and F1 in per cent.

    Raises:
        ValueError: There are no questions, lengths differ, or an answer is no text.

    Example:
        >>> scores = squad_scores(["the Nile", "in Cairo"], [["Nile"], ["Cairo", "Cairo, Egypt"]])
        >>> scores.exact_match, round(scores.f1, 2)
        (50.0, 83.33)
    """
    matches, f1 = answer_scores(predictions, references, version=version, f1_by=f1_by)
    answered = np.array([len(texts) > 0 for texts in references])
    scores = _mean(matches, f1)
    if answered.all():
        return scores
    with_answer, without = (
        _mean(matches[part], f1[part]) if part.any() else None for part in (answered, ~answered)
    )
    return dataclasses.replace(scores, has_answer=with_answer, no_answer=without)


def answer_scores(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    version: str = "2.0",
    f1_by: str = "words",
) -> tuple[np.ndarray, np.ndarray]:
    """Score each prediction by itself; see `squad_scores`.

    Args:
        predictions: As for `squad_scores`, and so are the others.
        references: The right answers of each question.
        version: Whose script to agree with.
        f1_by: What the F1 counts.

    Returns:
        Exact matches and F1, each (questions,) float from 0 to 1.

    Raises:
        ValueError: As `squad_scores`.

    Example:
        >>> matches, f1 = answer_scores(["the cat", "a dog"], [["cat"], ["dogs"]])
        >>> matches.tolist(), f1.tolist()
        ([1.0, 0.0], [1.0, 0.0])
    """
    if version not in ("1.1", "2.0"):
        raise ValueError(f'version must be "1.1" or "2.0". Received: {version!r}')
    if f1_by not in ("words", "characters"):
        raise ValueError(f'f1_by must be "words" or "characters". Received: {f1_by!r}')
    if len(predictions) == 0 or len(predictions) != len(references):
        raise ValueError(
            "predictions and references must have as many rows, at least one. Received: "
            f"{len(predictions)} predictions, {len(references)} references."
        )
    words = _words if f1_by == "words" else _characters
    matches, f1 = np.zeros(len(predictions)), np.zeros(len(predictions))
    for row, (prediction, texts) in enumerate(zip(predictions, references, strict=True)):
        _check(row, prediction, texts, version)
        said = words(prediction)
        known = [words(text) for text in texts]
        if version == "2.0":
            known = [reference for reference in known if reference] or [[]]
        matches[row] = max(said == reference for reference in known)
        f1[row] = max(_f1(said, reference, version) for reference in known)
    return matches, f1


def _words(text: str) -> list[str]:
    without_punctuation = text.lower().translate(_ASCII_PUNCTUATION)
    return _ARTICLES.sub(" ", without_punctuation).split()


def _characters(text: str) -> list[str]:
    # Of ASCII the signs go, too, such as $ and +, which are no punctuation in Unicode.
    text = text.lower().translate(_ASCII_PUNCTUATION)
    kept = (char for char in text if not unicodedata.category(char).startswith("P"))
    return _CHARACTERS.findall("".join(kept))


def _f1(said: list[str], reference: list[str], version: str) -> float:
    if version == "2.0" and not (said and reference):
        return float(said == reference)
    shared = sum((Counter(said) & Counter(reference)).values())
    return 2 * shared / (len(said) + len(reference)) if shared else 0.0


def _mean(matches: np.ndarray, f1: np.ndarray) -> SquadScores:
    return SquadScores(float(100 * matches.mean()), float(100 * f1.mean()), len(f1))


def _check(row: int, prediction: Any, texts: Any, version: str) -> None:
    if not isinstance(prediction, str):
        raise ValueError(
            f"Prediction {row} is {prediction!r:.60}; expected a text, empty for no answer."
        )
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f"The references of row {row} are {texts!r:.60}; expected a list of texts, [] for a "
            "question without an answer."
        )
    if version == "1.1" and not len(texts):
        raise ValueError(
            f'Row {row} has no reference. SQuAD 1.1 has no such questions: use version="2.0".'
        )
