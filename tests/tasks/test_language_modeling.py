import math

import keras
import numpy as np
import pytest

from keras_finetune import FineTuner, models
from keras_finetune.tasks import LanguageModeling, MaskedLanguageModeling


@pytest.fixture
def task(tokenizer):
    return LanguageModeling(tokenizer, max_length=12)


def test_rows_are_the_text_cut_into_pieces(task, reviews):
    rows = []
    for x, y in task.dataset(reviews, shuffle=False).as_numpy_iterator():
        assert x["token_ids"].shape == y.shape == x["padding_mask"].shape
        assert x["padding_mask"].all()
        np.testing.assert_array_equal(x["token_ids"][:, 1:], y[:, :-1])
        rows += np.c_[x["token_ids"], y[:, -1:]].tolist()
    joined = [number for row in rows for number in row]
    separator = task.tokenizer.sep_id
    encoded = [
        [*task.tokenizer.encode_batch([text], special_tokens=False).token_ids, separator]
        for text in reviews["text"]
    ]
    expected = [number for row in encoded for number in row]
    assert joined == expected[: len(joined)]
    assert len(expected) - len(joined) < 13


@pytest.mark.backends
def test_learns(task, tokenizer, reviews):
    backbone = models.transformer_decoder(
        tokenizer.vocab_size, num_layers=1, num_heads=2, hidden_dim=32, max_length=12, dropout=0.0
    )
    tuner = FineTuner(task.build(backbone))
    tuner.compile("adam", learning_rate=0.01)
    before = task.evaluate(tuner.model, reviews)
    tuner.fit(task.dataset(reviews), epochs=8, verbose=0)
    after = task.evaluate(tuner.model, reviews)
    assert after["perplexity"] < before["perplexity"] / 4
    assert after["perplexity"] == pytest.approx(math.exp(after["loss"]))


def test_frozen_layers_may_run_once(task, tokenizer, reviews):
    """The last token of a row is a label only: the inputs are narrower than the rows."""
    found = []
    for cache_frozen in (False, True):
        keras.utils.set_random_seed(0)
        backbone = models.transformer_decoder(
            tokenizer.vocab_size, num_layers=1, num_heads=2, hidden_dim=8, positions="rotary"
        )
        tuner = FineTuner(task.build(backbone))
        tuner.compile("adam", learning_rate=0.01)
        tuner.freeze("embeddings")
        history = tuner.fit(task.dataset(reviews), cache_frozen=cache_frozen, verbose=0)
        found.append(history.history["loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_a_list_of_texts_will_do(task, reviews):
    assert len(task.dataset(reviews["text"])) == len(task.dataset(reviews))


def test_too_little_text(task):
    with pytest.raises(ValueError, match="fewer than 13 tokens"):
        task.dataset(["a film"])


def test_backbones_that_see_the_future_are_refused(task, tokenizer):
    backbone = models.lstm_encoder(tokenizer.vocab_size, hidden_dim=16, bidirectional=True)
    with pytest.raises(ValueError, match="causal"):
        task.build(backbone)


def test_a_length_that_is_no_int(tokenizer):
    for task in (LanguageModeling, MaskedLanguageModeling):
        with pytest.raises(ValueError, match=r"max_length must be an int of at least 1.* 8\.5"):
            task(tokenizer, max_length=8.5)
        with pytest.raises(ValueError, match="tokenizer must be a"):
            task(None)
        with pytest.raises(ValueError, match="separate_texts must be True or False"):
            task(tokenizer, separate_texts="no")
