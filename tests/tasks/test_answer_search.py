import itertools

import numpy as np
import pytest

from keras_finetune.data import Tokenizer
from keras_finetune.tasks.answer_search import best_threshold, find_answers
from keras_finetune.tasks.answer_windows import choose_layout, make_windows

CONTEXTS = [
    "The cat sat on the mat, and the dog ran off. " * 2,
    "北京是中国的首都 😀👍。 Cafe\u0301 au lait",
    "Short.",
]
LONGEST = 4


def windows_and_logits(kind, seed=0):
    tokenizer = Tokenizer.train(CONTEXTS, 300, kind, min_frequency=1, progress=False)
    layout = choose_layout(tokenizer, None)
    windows = make_windows(["Who?"] * 3, CONTEXTS, tokenizer, layout, max_length=24, stride=6)
    rng = np.random.default_rng(seed)
    return windows, [rng.normal(0, 3, (length, 2)) for length in windows.lengths]


def by_brute_force(windows, logits, question):
    """Every pair of tokens of every window, by the characters that it stands for."""
    scores, null = {}, np.inf
    spans = windows.spans[question]
    for row in np.flatnonzero(windows.questions == question):
        null = min(null, logits[row][windows.null_at[row]].sum())
        tokens = range(windows.num_tokens[row])
        for first, last in itertools.product(tokens, tokens):
            low, high = first + windows.first_tokens[row], last + windows.first_tokens[row]
            if not 0 <= last - first < LONGEST:
                continue
            if (spans[[low, high], 0] >= spans[[low, high], 1]).any():
                continue
            written = spans[:, 0] < spans[:, 1]
            begin = np.flatnonzero(written & (spans[:, 0] == spans[low, 0]))[0]
            end = np.flatnonzero(written & (spans[:, 1] == spans[high, 1]))[-1]
            if (begin, end) != (low, high):  # a byte within a character
                continue
            at = windows.context_at[row]
            score = logits[row][at + first, 0] + logits[row][at + last, 1]
            key = (int(spans[low, 0]), int(spans[high, 1]))
            scores[key] = max(scores.get(key, -np.inf), score)
    return scores, null


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "char"])
@pytest.mark.parametrize("unanswerable", [False, True])
def test_equals_brute_force(kind, unanswerable):
    windows, logits = windows_and_logits(kind)
    assert len(windows.questions) > 3
    found = find_answers(
        windows,
        logits,
        CONTEXTS,
        max_answer_length=LONGEST,
        unanswerable=unanswerable,
        n_best=10,
    )
    for question, (context, (answers, null_probability, margin)) in enumerate(
        zip(CONTEXTS, found, strict=True)
    ):
        scores, null = by_brute_force(windows, logits, question)
        ranked = sorted(scores, key=lambda key: (-scores[key], key))[:10]
        assert [(answer.start, answer.end) for answer in answers] == ranked
        assert all(answer.text == context[answer.start : answer.end] for answer in answers)
        total = sum(map(np.exp, scores.values())) + unanswerable * np.exp(null)
        expected = [np.exp(scores[key]) / total for key in ranked]
        assert [answer.probability for answer in answers] == pytest.approx(expected)
        assert null_probability == pytest.approx(unanswerable * np.exp(null) / total)
        assert margin == pytest.approx(null - scores[ranked[0]])


def test_probabilities_of_all_answers_are_one():
    windows, logits = windows_and_logits("wordpiece")
    found = find_answers(
        windows, logits, CONTEXTS, max_answer_length=LONGEST, unanswerable=True, n_best=10_000
    )
    for answers, null_probability, _ in found:
        total = sum(answer.probability for answer in answers) + null_probability
        assert total == pytest.approx(1)
        assert all(answer.text.strip() == answer.text != "" for answer in answers)


def test_a_character_of_more_tokens_than_an_answer_may_have():
    tokenizer = Tokenizer.train(["plain text"] * 2, 300, "bpe", progress=False)
    layout = choose_layout(tokenizer, None)
    windows = make_windows(["a"], ["中"], tokenizer, layout, max_length=24, stride=6)
    logits = [np.zeros((length, 2)) for length in windows.lengths]
    options = {"unanswerable": False, "n_best": 3}
    assert find_answers(windows, logits, ["中"], max_answer_length=2, **options)[0].answers == ()
    (answer,) = find_answers(windows, logits, ["中"], max_answer_length=3, **options)[0].answers
    assert (answer.text, answer.probability) == ("中", 1.0)


def test_large_logits_do_not_overflow():
    windows, logits = windows_and_logits("wordpiece")
    large = [each * 1e4 - 1e6 for each in logits]
    found = find_answers(windows, large, CONTEXTS, max_answer_length=4, unanswerable=True, n_best=1)
    assert all(np.isfinite(each.answers[0].probability) for each in found)


def test_best_threshold_equals_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(50):
        margins = rng.integers(-5, 6, 12).astype(float)
        gains = rng.normal(size=12)
        tried = np.arange(-6.5, 7.5, 0.25)
        totals = [gains[margins <= threshold].sum() for threshold in tried]
        found = best_threshold(margins, gains)
        assert gains[margins <= found].sum() == pytest.approx(max(0, *totals))
