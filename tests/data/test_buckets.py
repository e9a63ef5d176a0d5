from itertools import combinations

import keras
import numpy as np
import pytest

from keras_finetune.data import bucket_widths, buckets


def padded(lengths, widths):
    return int(np.asarray(widths)[np.searchsorted(widths, lengths)].sum())


@pytest.mark.parametrize("seed", range(20))
def test_no_other_widths_pad_less(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, rng.integers(10, 90), rng.integers(1, 60))
    count = int(rng.integers(1, 5))
    candidates = range(8, int(lengths.max()) + 8, 8)
    top = -(-int(lengths.max()) // 8) * 8
    best = min(
        padded(lengths, sorted({*some, top}))
        for size in range(count)
        for some in combinations(candidates, size)
    )
    widths = bucket_widths(lengths, count, multiple=8)
    assert len(widths) <= count
    assert (np.diff(widths) > 0).all()
    assert (widths % 8 == 0).all()
    assert padded(lengths, widths) == best


def test_many_lengths_take_little_memory():
    lengths = np.arange(1, 200_001)
    widths = bucket_widths(lengths, 4, multiple=1)
    assert widths[-1] == 200_000
    assert padded(lengths, widths) <= 1.01 * padded(lengths, [50_000, 100_000, 150_000, 200_000])


def test_max_length_is_the_last_width():
    assert bucket_widths(np.arange(1, 51), 3, max_length=50)[-1] == 50


def test_equal_lengths_need_one_width():
    assert bucket_widths(np.full(10, 24)).tolist() == [24]


def test_empty_rows_still_have_a_width():
    assert bucket_widths(np.zeros(3, int)).tolist() == [4]


@pytest.mark.backends
def test_few_batches_get_few_widths():
    found = [buckets.choose_num_buckets(n) for n in (10, 100, 10_000)]
    expected = {"tensorflow": [3, 10, 24], "jax": [2, 3, 24], "torch": [9, 24, 24]}
    assert found == expected[keras.backend.backend()]


@pytest.mark.backends
def test_a_gpu_gets_few_widths_where_each_is_compiled(monkeypatch):
    monkeypatch.setattr(buckets, "on_gpu", lambda: True)
    found = [buckets.choose_num_buckets(n) for n in (10, 100, 10_000)]
    assert found == ([9, 24, 24] if keras.backend.backend() == "torch" else [2, 2, 5])


def test_refused():
    with pytest.raises(ValueError, match="at least one row"):
        bucket_widths(np.array([]))
    with pytest.raises(ValueError, match="at least 1"):
        bucket_widths(np.array([3]), 0)
