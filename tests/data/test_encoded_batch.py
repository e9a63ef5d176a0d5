import threading

import numpy as np
import pytest

from keras_finetune.data import encoded_batch
from keras_finetune.data.encoded_batch import EncodedBatch, encode_all
from keras_finetune.data.tokenizer import Tokenizer

TEXTS = ["a cat", "", "a b c d", "b"]


@pytest.fixture(scope="module")
def encoder():
    tokenizer = Tokenizer.train(TEXTS, kind="char", min_frequency=1, progress=False)
    return tokenizer._tokenizer


def test_rows_and_lengths() -> None:
    batch = EncodedBatch(np.arange(5, dtype=np.int32), np.array([0, 2, 2, 5]))
    assert len(batch) == 3
    assert [row.tolist() for row in batch] == [[0, 1], [], [2, 3, 4]]
    assert batch[-1].tolist() == [2, 3, 4]
    assert batch.lengths.tolist() == [2, 0, 3]
    with pytest.raises(IndexError):
        batch[3]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_the_internal_batches_do_not_show(encoder, monkeypatch, size: int) -> None:
    monkeypatch.setattr(encoded_batch, "_BATCH", size)
    batch = encode_all(encoder, TEXTS, False, True)
    assert [row.tolist() for row in batch] == [encoder.encode(text).ids for text in TEXTS]


@pytest.mark.parametrize("size", [1, 100])
def test_half_a_character_names_its_row(encoder, monkeypatch, size: int) -> None:
    monkeypatch.setattr(encoded_batch, "_BATCH", size)
    with pytest.raises(ValueError, match="Row 12: the text has half a character"):
        encode_all(encoder, ["a", "b", "b\ud800", "c"], False, True, first_row=10)
    assert threading.active_count() == 1 or not any(
        "ThreadPoolExecutor" in thread.name for thread in threading.enumerate()
    )


def test_spans_are_where_the_tokens_stand(encoder) -> None:
    batch = encode_all(encoder, TEXTS, False, False, char_spans=True)
    assert batch.char_spans.dtype == np.int32
    for row, text in enumerate(TEXTS):
        tokens = range(batch.offsets[row], batch.offsets[row + 1])
        read = [text[slice(*batch.char_spans[token])] for token in tokens]
        assert read == [encoder.id_to_token(batch.token_ids[token]) for token in tokens]
    assert encode_all(encoder, [], False, False, char_spans=True).char_spans.shape == (0, 2)
    assert encode_all(encoder, TEXTS, False, False).char_spans is None
