import numpy as np
import pytest

from keras_finetune.generation.choosing import (
    choose,
    forbid_repeated_ngrams,
    log_softmax,
    penalize_repetition,
)

LOGITS = np.log(np.array([[0.5, 0.3, 0.15, 0.05]], np.float32))


def shares(**options):
    rng = np.random.default_rng(0)
    drawn = choose(np.repeat(LOGITS, 20_000, axis=0), rng=rng, **options)
    return np.bincount(drawn, minlength=4) / 20_000


def test_greedy_takes_the_greatest():
    logits = np.array([[0.0, 2.0, 1.0], [5.0, 2.0, 1.0]])
    assert choose(logits, rng=np.random.default_rng(0)).tolist() == [1, 0]


def test_samples_have_the_model_s_shares():
    np.testing.assert_allclose(shares(temperature=1.0), [0.5, 0.3, 0.15, 0.05], atol=0.015)


def test_a_low_temperature_sharpens():
    expected = np.array([0.5, 0.3, 0.15, 0.05]) ** 2
    np.testing.assert_allclose(shares(temperature=0.5), expected / expected.sum(), atol=0.015)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"top_k": 2}, [0.5, 0.3, 0, 0]),
        ({"top_k": 9}, [0.5, 0.3, 0.15, 0.05]),
        ({"top_p": 0.5}, [1, 0, 0, 0]),
        ({"top_p": 0.51}, [0.5, 0.3, 0, 0]),
        ({"top_p": 0.01}, [1, 0, 0, 0]),
        ({"top_p": 1.0}, [0.5, 0.3, 0.15, 0.05]),
        ({"top_k": 3, "top_p": 0.8}, [0.5, 0.3, 0, 0]),
    ],
)
def test_only_the_most_probable_are_sampled(options, kept):
    expected = np.array(kept) / np.sum(kept)
    np.testing.assert_allclose(shares(temperature=1.0, **options), expected, atol=0.015)


def test_the_same_seed_gives_the_same_tokens():
    logits = np.random.default_rng(1).normal(size=(50, 100))
    one, same, other = (
        choose(logits, temperature=1.0, rng=np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert (one == same).all()
    assert (one != other).any()


def test_repetition_is_penalized_for_the_row_s_own_tokens():
    logits = np.array([[2.0, -1.0, 1.0], [2.0, -1.0, 1.0]])
    found = penalize_repetition(logits, [np.array([0, 0, 1]), np.array([], int)], 2.0)
    np.testing.assert_array_equal(found, [[1.0, -2.0, 1.0], [2.0, -1.0, 1.0]])
    assert logits[0, 0] == 2.0  # What was given stays.


@pytest.mark.parametrize(
    ("history", "size", "forbidden"),
    [
        ([1, 2, 3, 1, 2], 3, [3]),
        ([1, 2, 3, 1], 2, [2]),
        ([1, 2, 1, 3, 1], 2, [2, 3]),
        ([1, 1], 1, [1]),
        ([1, 2], 3, []),
        ([1, 2, 3], 3, []),
    ],
)
def test_ngrams_do_not_come_twice(history, size, forbidden):
    found = forbid_repeated_ngrams(np.zeros((1, 5)), [np.array(history)], size)
    assert np.flatnonzero(np.isinf(found[0])).tolist() == forbidden


def test_log_softmax_of_great_numbers():
    np.testing.assert_allclose(log_softmax(np.array([[1e4, 1e4]])), np.log([[0.5, 0.5]]))
