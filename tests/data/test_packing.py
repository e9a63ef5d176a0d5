import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_finetune.data.packing import pack_rows


@given(st.lists(st.integers(1, 16), max_size=60))
def test_every_sequence_is_in_one_row_and_no_row_is_too_full(lengths):
    rows = pack_rows(np.array(lengths, int), 16)
    assert sorted(number for row in rows for number in row) == list(range(len(lengths)))
    assert all(sum(lengths[number] for number in row) <= 16 for row in rows)


def test_rows_are_full():
    lengths = np.random.default_rng(0).integers(4, 60, 2_000)
    rows = pack_rows(lengths, 128)
    assert lengths.sum() / (len(rows) * 128) > 0.98


def test_bad_lengths():
    with pytest.raises(ValueError, match=r"row_length=8 tokens\. Received some of 3 to 9"):
        pack_rows(np.array([3, 9]), 8)
    with pytest.raises(ValueError, match="Received some of 0 to 2"):
        pack_rows(np.array([0, 2]), 8)
