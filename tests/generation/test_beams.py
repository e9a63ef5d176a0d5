"""Beam search against all continuations there are."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from keras_finetune.generation.beams import Beams
from keras_finetune.generation.choosing import (
    forbid_repeated_ngrams,
    log_softmax,
    penalize_repetition,
)
from keras_finetune.generation.generating import _beam_search
from keras_finetune.generation.prompts import PromptBatch
from keras_finetune.generation.settings import Settings

VOCAB, END, LENGTH = 5, 4, 4


def logits_after(tokens, seed):
    """Random logits that depend on all tokens so far."""
    return np.random.default_rng([seed, *[t + 1 for t in tokens]]).normal(size=VOCAB) * 2


def search(seeds, size, penalty=1.0, ends=(END,)):
    beams = Beams(len(seeds), size, ends, penalty)
    for _ in range(LENGTH):
        logits = [logits_after(t, seeds[row // size]) for row, t in enumerate(beams.tokens)]
        before = beams.tokens
        rows, tokens = beams.step(log_softmax(np.array(logits)))
        for place, (row, token) in enumerate(zip(rows, tokens, strict=True)):
            if not beams.done[place // size]:
                assert beams.tokens[place].tolist() == [*before[row], token]
        if beams.done.all():
            break
    return [tokens.tolist() for tokens in beams.best()]


def best_of_all(seed, penalty):
    """The best of all texts that end, or reach the greatest length."""
    found = {}
    for length in range(1, LENGTH + 1):
        for tokens in itertools.product(range(VOCAB), repeat=length):
            ended = tokens[-1] == END
            if END in tokens[:-1] or not (ended or length == LENGTH):
                continue
            total = sum(
                log_softmax(logits_after(tokens[:n], seed))[tokens[n]] for n in range(length)
            )
            found[tokens[:-1] if ended else tokens] = total / length**penalty
    return list(max(found, key=found.get))


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_with_beams_enough_it_is_the_best_of_all(seed, penalty):
    # Until the last step a beam for each text; whether a search may end early is a heuristic, which
    # with so many beams comes into play for none of these.
    assert search([seed], VOCAB**LENGTH, penalty) == [best_of_all(seed, penalty)]


def test_prompts_are_searched_each_for_itself():
    together = search([0, 1, 2, 3], 3)
    assert together == [search([seed], 3)[0] for seed in range(4)]


def test_one_beam_is_greedy():
    for seed in range(5):
        tokens = []
        while len(tokens) < LENGTH:
            token = int(logits_after(tokens, seed).argmax())
            if token == END:
                break
            tokens.append(token)
        assert search([seed], 1) == [tokens]


def test_long_texts_are_favoured_by_a_greater_penalty():
    lengths = [np.mean([len(search([seed], 3, p)[0]) for seed in range(20)]) for p in (-2, 0, 3)]
    assert lengths[0] <= lengths[1] <= lengths[2]
    assert lengths[0] < lengths[2]


def test_no_end_token():
    assert len(search([0], 2, ends=(-1,))[0]) == LENGTH


class Pairs:
    """A decoder whose next token depends on the last one alone."""

    def __init__(self, logits):
        self.logits = logits

    def start(self, prompts, mask, room, source):
        return self.logits[prompts[:, 0]]

    def next(self, tokens):
        return self.logits[tokens]

    def reorder(self, rows):
        pass


@pytest.mark.parametrize(
    "options",
    [{"no_repeat_ngram_size": 1}, {"no_repeat_ngram_size": 2}, {"repetition_penalty": 1.5}],
)
def test_what_must_not_come_again_leaves_other_tokens_their_probabilities(options):
    """As in `transformers`; else a beam whose best token is forbidden would become a better one."""
    settings = Settings(max_new_tokens=3, num_beams=VOCAB**3, **options)
    texts = np.array([[0, *new] for new in itertools.product(range(VOCAB), repeat=3)])
    for seed in range(10):
        logits = np.random.default_rng(seed).normal(size=(VOCAB, VOCAB)) * 2
        scores = np.zeros(len(texts))
        for place in (1, 2, 3):
            found, so_far = log_softmax(logits[texts[:, place - 1]]), list(texts[:, :place])
            if settings.no_repeat_ngram_size:
                found = forbid_repeated_ngrams(found, so_far, settings.no_repeat_ngram_size)
            else:
                found = penalize_repetition(found, so_far, settings.repetition_penalty)
            scores += found[np.arange(len(texts)), texts[:, place]]
        model = SimpleNamespace(name="pairs", layers=[])
        batch = PromptBatch(model, Pairs(logits), [np.array([0])], None, 0, settings, (-1,))
        (best,) = _beam_search(batch, settings)
        assert best.tolist() == texts[scores.argmax(), 1:].tolist()
