import numpy as np
import pytest

from keras_finetune.data import read
from keras_finetune.tasks.text_blocks import blocks_store


def test_what_is_left_of_a_chunk_opens_the_next(tokenizer, reviews, monkeypatch, tmp_path):
    """The same rows whether the texts come in one chunk or in many."""
    examples = read(reviews)
    whole = np.array(blocks_store(examples, tokenizer, "text", 11).column("token_ids"))
    chunks = examples.chunks
    monkeypatch.setattr(examples, "chunks", lambda size=5: chunks(5))
    monkeypatch.setenv("KERAS_FINETUNE_CACHE", str(tmp_path / "other"))
    pieces = np.array(blocks_store(examples, tokenizer, "text", 11).column("token_ids"))
    np.testing.assert_array_equal(pieces, whole)


def test_unknown_column(tokenizer, reviews):
    with pytest.raises(ValueError, match='Did you mean "text"'):
        blocks_store(read(reviews), tokenizer, "txt", 11)
