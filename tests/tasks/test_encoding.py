import numpy as np
import pytest

from keras_finetune.data import Tokenizer, read
from keras_finetune.tasks.encoding import encoded_store, token_columns


def encode(chunk, first_row):
    return {"length": np.array([len(text) for text in chunk["text"]])}


def test_built_once_for_each_input(reviews, tokenizer, tmp_path):
    examples = read(reviews)
    first = encoded_store(examples, tokenizer, {"kind": "lengths"}, encode)
    assert first.column("length").tolist() == [len(text) for text in reviews["text"]]

    def never(chunk, first_row):
        raise AssertionError("encoded again")

    again = encoded_store(read(reviews), tokenizer, {"kind": "lengths"}, never)
    assert again.path == first.path
    for other in (
        lambda: encoded_store(examples, tokenizer, {"kind": "lengths", "x": 1}, encode),
        lambda: encoded_store(examples.head(3), tokenizer, {"kind": "lengths"}, encode),
    ):
        assert other().path != first.path


def test_an_empty_text_is_no_empty_row():
    tokenizer = Tokenizer.train(
        ["a b c"] * 3, vocab_size=260, special_tokens=["[UNK]"], progress=False
    )
    texts = ["a", "", "b c", ""]
    encoded = tokenizer.encode_batch(texts, texts)
    assert (encoded.lengths == 0).sum() == 2
    columns = token_columns(encoded, tokenizer)
    rows = np.split(columns["token_ids"].values, columns["token_ids"].offsets[1:-1])
    expected = [tokenizer.encode(text, text) or [tokenizer.unk_id] for text in texts]
    assert [row.tolist() for row in rows] == expected
    assert len(columns["segment_ids"].values) == len(columns["token_ids"].values)


def test_no_rows(tokenizer, reviews):
    with pytest.raises(ValueError, match="are empty"):
        encoded_store(read(reviews).select([]), tokenizer, {"kind": "lengths"}, encode)
