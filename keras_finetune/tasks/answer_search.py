"""The best answers in what a model says of each token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import keras
import numpy as np

from keras_finetune.data import make_plan
from keras_finetune.models.arguments import check_keras_model
from keras_finetune.tasks.answer_windows import Windows
from keras_finetune.tasks.prediction import check_outputs
from keras_finetune.tuning.kernels import predictions_worth_compiling


@dataclass(frozen=True)
class Answer:
    """An answer to a question, cut out of the text.

    Attributes:
        text: The answer; empty if the text holds none.
        start: Number of its first character in the context.
        end: Number of the character after its last: `context[start:end]` is `text`.
        probability: Its probability, among all answers that the context allows.
        null_probability: The probability that there is no answer; None if the task has always one.
        n_best: The most probable answers, best first, this one too unless it is empty.
    """

    text: str
    start: int
    end: int
    probability: float
    null_probability: float | None = None
    n_best: "tuple[Answer, ...]" = ()


class Found(NamedTuple):
    """What was found in a text.

    Attributes:
        answers: The most probable answers, best first.
        null_probability: The probability that there is none; 0 if there must be one.
        null_margin: By how much the score of "no answer" exceeds that of the best answer.
    """

    answers: tuple[Answer, ...]
    null_probability: float
    null_margin: float


def window_logits(
    model: keras.Model, windows: Windows, *, batch_size: int, pad_id: int
) -> list[np.ndarray]:
    """Run a model on rows, in batches of similar length.

    Args:
        model: Gives logits, (batch, length, 2).
        windows: The rows.
        batch_size: int, rows in a batch.
        pad_id: int, what fills up shorter rows.

    Returns:
        For each row, (its length, 2) float32.
    """
    check_keras_model("The task", model)
    logits: list[np.ndarray] = [np.zeros((0, 2), np.float32)] * len(windows.lengths)
    taken = model.input if isinstance(model.input, dict) else ("token_ids", "padding_mask")
    plan = make_plan(windows.lengths, batch_size)
    with predictions_worth_compiling(model, plan):
        for rows, width in plan:
            batch = windows.batch(rows, width, pad_id)
            outputs = model.predict_on_batch({name: batch[name] for name in taken})
            for row, output in zip(rows, outputs, strict=True):
                logits[row] = output[: windows.lengths[row]]
    return logits


def find_answers(
    windows: Windows,
    logits: Sequence[np.ndarray],
    contexts: Sequence[str],
    *,
    max_answer_length: int,
    unanswerable: bool,
    n_best: int,
) -> list[Found]:
    """Find the best answers to each question over its windows.

    An answer's score is the logit of its first token as a first, and of its last token as a last
    one; of several windows that hold it the best score counts. "No answer" scores at the null
    position of the window that is least sure of it. Probabilities are a softmax over all answers of
    at most `max_answer_length` tokens, and over "no answer" if there may be none.

    Args:
        windows: The rows.
        logits: For each row, (length, 2) float.
        contexts: The text of each question.
        max_answer_length: int, in tokens.
        unanswerable: Whether there may be no answer.
        n_best: int, how many answers to return at most.

    Raises:
        ValueError: A logit is NaN or infinite.
    """
    for row, length in enumerate(windows.lengths):
        check_outputs(np.asarray(logits[row])[:length])
    found = []
    bounds = np.searchsorted(windows.questions, np.arange(len(contexts) + 1))
    for question, context in enumerate(contexts):
        rows = range(bounds[question], bounds[question + 1])
        scores = span_scores(windows, logits, rows, windows.spans[question], max_answer_length)
        null = min(float(logits[row][windows.null_at[row]].sum()) for row in rows)
        spans, flat = windows.spans[question], scores.reshape(-1)
        best = flat.max(initial=-np.inf)
        highest = max(best, null) if unanswerable else best
        count = min(n_best, int((flat > -np.inf).sum()))
        if not count:  # One character of more tokens than an answer may have.
            found.append(Found((), float(unanswerable), np.inf))
            continue
        chances = np.exp(flat - highest)
        null_chance = np.exp(null - highest) if unanswerable else 0.0
        total = chances.sum() + null_chance
        good = np.flatnonzero(flat >= np.partition(flat, -count)[-count])
        # Of equal scores the answer that begins first, then the shortest.
        top = good[np.argsort(-flat[good], kind="stable")][:count]
        answers = []
        for place in top:
            first, more = divmod(int(place), scores.shape[1])
            start, end = int(spans[first, 0]), int(spans[first + more, 1])
            probability = float(chances[place] / total)
            answers.append(Answer(context[start:end], start, end, probability))
        found.append(Found(tuple(answers), float(null_chance / total), float(null - best)))
    return found


def span_scores(
    windows: Windows,
    logits: Sequence[np.ndarray],
    rows: range,
    spans: np.ndarray,
    max_answer_length: int,
) -> np.ndarray:
    """Score every answer that a context allows.

    Args:
        windows: The rows.
        logits: For each row, (length, 2) float.
        rows: Which of the rows belong to the question.
        spans: (tokens, 2) characters of the context's tokens.
        max_answer_length: int, in tokens.

    Returns:
        (tokens, lengths) float64: entry (i, j) is the score of tokens i to i + j; minus infinity
        where that is no answer.
    """
    longest = min(max_answer_length, len(spans))
    scores = np.full((len(spans), longest), -np.inf)
    # Bytes of one character are several tokens: only the first begins it, only the last ends it.
    written = spans[:, 0] < spans[:, 1]
    begins, ends = written.copy(), written.copy()
    begins[1:] &= ~written[:-1] | (spans[1:, 0] != spans[:-1, 0])
    ends[:-1] &= ~written[1:] | (spans[:-1, 1] != spans[1:, 1])
    for row in rows:
        first, at, count = (
            int(values[row])
            for values in (windows.first_tokens, windows.context_at, windows.num_tokens)
        )
        part = np.asarray(logits[row][at : at + count], np.float64)
        here = slice(first, first + count)
        starts = np.where(begins[here], part[:, 0], -np.inf)
        stops = np.where(ends[here], part[:, 1], -np.inf)
        stops = np.append(stops, np.full(longest - 1, -np.inf))
        pairs = starts[:, None] + np.lib.stride_tricks.sliding_window_view(stops, longest)
        np.maximum(scores[here], pairs, out=scores[here])
    return scores


def best_threshold(margins: np.ndarray, gains: np.ndarray) -> float:
    """Choose up to which margin of "no answer" it is better to answer.

    Args:
        margins: (questions,) by how much "no answer" scores higher than the best answer.
        gains: (questions,) what answering scores, less what "no answer" scores.

    Returns:
        The threshold, half-way between two margins; of equally good ones the lowest.

    Example:
        >>> best_threshold(np.array([-3.0, -1.0, 2.0]), np.array([1.0, 0.5, -1.0]))
        0.5
    """
    order = np.argsort(margins, kind="stable")
    values, last = np.unique(margins[order], return_index=True)
    after = np.append(last[1:], len(margins))  # how many questions are answered up to each margin
    totals = np.append(0.0, np.cumsum(gains[order])[after - 1])
    edges = np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2, [values[-1] + 1]])
    return float(edges[totals.argmax()])
