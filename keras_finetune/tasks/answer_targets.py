"""What a model learns from: the tokens of an answer in each row of its question."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_finetune.data import Examples, Ragged
from keras_finetune.data.alignment import covering_tokens
from keras_finetune.data.question_answers import AnswerSpan
from keras_finetune.tasks.answer_windows import Windows

_NAMED = 5


@dataclass(frozen=True)
class AlignmentReport:
    """How the answers of a data set fit the tokens of their texts.

    Attributes:
        questions: Number of questions.
        windows: Number of rows that the model is trained on, one or several a question.
        exact: Questions whose answer is a whole number of tokens, or that have none.
        widened: Questions whose answer begins or ends inside a token; the model learns the whole
            token.
        left_out: Questions that are not trained on: no token stands for their answer, or it is
            longer than what a row holds of a text.
        first_widened: The first five of them, by id, or by row number where there are no ids.
        first_left_out: Likewise.
    """

    questions: int
    windows: int
    exact: int
    widened: int
    left_out: int
    first_widened: tuple[Any, ...] = ()
    first_left_out: tuple[Any, ...] = ()

    def __str__(self) -> str:
        said = f"{self.questions:,} questions in {self.windows:,} windows"
        if self.widened:
            named = ", ".join(map(str, self.first_widened))
            said += (
                f"; {self.widened:,} answers begin or end inside a token, and are learned with "
                f"the whole token ({named}{', ...' if self.widened > _NAMED else ''})"
            )
        if self.left_out:
            named = ", ".join(map(str, self.first_left_out))
            said += (
                f"; {self.left_out:,} are LEFT OUT, since no token stands for their answer, or it "
                f"is too long for a window ({named}{', ...' if self.left_out > _NAMED else ''})"
            )
        return said + "."


def choose_answer(answers: Sequence[AnswerSpan]) -> AnswerSpan:
    """Choose the answer to learn: the one given most often, of several such the first."""
    return max(dict.fromkeys(answers), key=list(answers).count)


def is_exact(spans: np.ndarray, answer: AnswerSpan) -> bool:
    """Tell whether an answer begins where a token begins, and ends where one ends.

    Args:
        spans: (tokens, 2) characters of each token.
        answer: The answer.
    """
    tokens = covering_tokens(spans, *answer)
    return tokens is not None and (spans[tokens[0], 0], spans[tokens[1], 1]) == tuple(answer)


def count_inexact(windows: Windows, answers: Sequence[Sequence[AnswerSpan]]) -> int:
    """Count the questions that have answers, none of which is a whole number of tokens.

    Args:
        windows: The rows.
        answers: The answers to each question.
    """
    return sum(
        bool(given) and not any(is_exact(spans, answer) for answer in given)
        for spans, given in zip(windows.spans, answers, strict=True)
    )


def window_targets(
    windows: Windows, answers: Sequence[Sequence[AnswerSpan]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find what each row's first and last answer token are.

    Args:
        windows: The rows.
        answers: The answers to each question; none for a question that has none.

    Returns:
        (rows, 2) positions, the null position twice where the answer is not in the row, whole;
        (rows,) whether the answer was widened to whole tokens; (rows,) whether to train on the
        row: not if its question has an answer that is in none of its rows.
    """
    tokens = np.full((len(answers), 2), -1)
    answered = np.zeros(len(answers), bool)
    widened = np.zeros(len(answers), bool)
    for question, given in enumerate(answers):
        if given:
            answered[question] = True
            answer = choose_answer(given)
            tokens[question] = covering_tokens(windows.spans[question], *answer) or (-1, -1)
            widened[question] = not is_exact(windows.spans[question], answer)
    first, last = tokens[windows.questions].T - windows.first_tokens
    inside = (tokens[windows.questions, 0] >= 0) & (first >= 0) & (last < windows.num_tokens)
    at = np.stack([first, last], axis=1) + windows.context_at[:, None]
    positions = np.where(inside[:, None], at, windows.null_at[:, None])
    found = np.zeros(len(answers), bool)
    found[windows.questions[inside]] = True
    return positions, widened[windows.questions], (found | ~answered)[windows.questions]


def target_columns(
    windows: Windows, answers: Sequence[Sequence[AnswerSpan]], first_row: int
) -> dict[str, "np.ndarray | Ragged"]:
    """Turn rows and their answers into columns of a store, without rows that mislead.

    Args:
        windows: The rows.
        answers: The answers to each question.
        first_row: Number of the first question in its source.
    """
    positions, widened, kept = window_targets(windows, answers)
    tokens = np.repeat(kept, windows.lengths)
    offsets = np.append(0, np.cumsum(windows.lengths[kept]))
    return {
        "token_ids": Ragged(windows.token_ids[tokens], offsets),
        "segment_ids": Ragged(windows.segment_ids[tokens], offsets),
        "positions": positions[kept].astype(np.int32),
        "row": windows.questions[kept] + first_row,
        "widened": widened[kept],
    }


def alignment_report(
    examples: Examples, rows: np.ndarray, widened: np.ndarray, id_column: str
) -> AlignmentReport:
    """Count how answers fit tokens.

    Args:
        examples: The questions.
        rows: (windows,) the row number in `examples` of each window that is trained on.
        widened: (windows,) bool.
        id_column: Where the ids are, if there is such a column.
    """
    total = len(examples)
    wide = np.unique(rows[widened])
    left_out = np.setdiff1d(np.arange(total), rows)

    def named(numbers: np.ndarray) -> tuple[Any, ...]:
        first = numbers[:_NAMED]
        if not len(first) or id_column not in examples.columns:
            return tuple(f"row {number}" for number in first)
        return tuple(examples.select(first).column(id_column))

    return AlignmentReport(
        questions=total,
        windows=len(rows),
        exact=total - len(wide) - len(left_out),
        widened=len(wide),
        left_out=len(left_out),
        first_widened=named(wide),
        first_left_out=named(left_out),
    )
