import pytest

from keras_finetune.data import read
from keras_finetune.tasks.encoding import encoded_store


def encode(chunk, first_row):
    import numpy as np

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


def test_no_rows(tokenizer, reviews):
    with pytest.raises(ValueError, match="are empty"):
        encoded_store(read(reviews).select([]), tokenizer, {"kind": "lengths"}, encode)
