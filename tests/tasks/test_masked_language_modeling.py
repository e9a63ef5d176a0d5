import numpy as np
import pytest

from keras_finetune import FineTuner, models
from keras_finetune.data import Tokenizer, read
from keras_finetune.tasks import MaskedLanguageModeling
from keras_finetune.tasks.text_blocks import blocks_store


@pytest.fixture
def task(tokenizer):
    return MaskedLanguageModeling(tokenizer, max_length=20, mask_rate=0.2)


def test_a_fifth_is_hidden_as_bert_does(task, reviews):
    many = {"text": reviews["text"] * 40}
    shown, hidden = [], []
    store = blocks_store(read(many), task.tokenizer, task.text, task.max_length)
    plain = {tuple(row) for row in store.column("token_ids").tolist()}
    for x, y, weights in task.dataset(many).as_numpy_iterator():
        assert x["mask_positions"].shape[1] == 4
        assert (np.diff(x["mask_positions"], axis=1) > 0).all()
        here = np.take_along_axis(x["token_ids"], x["mask_positions"], 1)
        shown += here[weights > 0].tolist()
        hidden += y[weights > 0].tolist()
        restored = x["token_ids"].copy()
        np.put_along_axis(restored, x["mask_positions"], y, axis=1)
        assert {tuple(row) for row in restored} <= plain
    shown, hidden = np.array(shown), np.array(hidden)
    assert np.mean(shown == task.tokenizer.mask_id) == pytest.approx(0.8, abs=0.03)
    assert np.mean(shown == hidden) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("whole_word", [False, True])
@pytest.mark.parametrize("separate_texts", [False, True])
def test_the_share_is_the_rate_and_no_separator_is_hidden(reviews, whole_word, separate_texts):
    pieces = Tokenizer.train(reviews["text"], 300, "wordpiece", min_frequency=1, progress=False)
    task = MaskedLanguageModeling(
        pieces, max_length=9, whole_word=whole_word, separate_texts=separate_texts
    )
    hidden_ids, counts, rows, ordinary = [], [], 0, 0
    for x, hidden, weights in task.dataset({"text": reviews["text"] * 40}).as_numpy_iterator():
        original = x["token_ids"].copy()
        np.put_along_axis(original, x["mask_positions"], hidden, axis=1)
        hidden_ids += hidden[weights > 0].tolist()
        counts += weights.sum(axis=1).tolist()
        rows += len(original)
        ordinary += ((x["padding_mask"] > 0) & (original != pieces.sep_id)).sum()
    assert pieces.sep_id not in hidden_ids
    assert max(counts) <= 2
    if not whole_word:  # Which passes over words that are too long.
        assert min(counts) == 1
        # A row of fewer than 7 tokens has one hidden all the same.
        least = max(0.15 * ordinary / rows, 1.0)
        assert least - 0.02 < np.mean(counts) < least + 0.15


def test_hidden_anew_in_every_epoch_and_the_same_for_a_seed(task, reviews):
    def positions(dataset):
        return [x["mask_positions"].tolist() for x, _, _ in dataset.as_numpy_iterator()]

    dataset = task.dataset(reviews, shuffle=False)
    first, second = positions(dataset), positions(dataset)
    assert first != second
    assert positions(task.dataset(reviews, shuffle=False)) == first


@pytest.mark.backends
def test_learns(task, tokenizer, reviews):
    backbone = models.transformer_encoder(
        tokenizer.vocab_size, num_layers=1, num_heads=2, hidden_dim=32, max_length=20, dropout=0.0
    )
    tuner = FineTuner(task.build(backbone))
    tuner.compile("adam", learning_rate=0.01)
    tuner.fit(task.dataset(reviews), epochs=15, verbose=0)
    assert tuner.history["loss"][-1] < tuner.history["loss"][0] - 1
    found = task.evaluate(tuner.model, reviews)
    assert task.evaluate(tuner.model, reviews) == pytest.approx(found, rel=1e-5)
    assert set(found) == {"loss", "accuracy", "perplexity", "word_perplexity"}
    assert 1 < found["perplexity"] < found["word_perplexity"]


@pytest.mark.parametrize("separate_texts", [False, True])
def test_whole_words_come_together(reviews, separate_texts):
    pieces = Tokenizer.train(reviews["text"], 60, "wordpiece", progress=False)
    task = MaskedLanguageModeling(
        pieces, max_length=24, mask_rate=0.3, whole_word=True, separate_texts=separate_texts
    )
    counts, continued = [], 0
    for x, hidden, weights in task.dataset(reviews).as_numpy_iterator():
        assert x["mask_positions"].shape == hidden.shape == weights.shape
        assert (np.diff(x["mask_positions"], axis=1) > 0).all()
        original = x["token_ids"].copy()
        np.put_along_axis(original, x["mask_positions"], hidden, axis=1)
        for row, positions in enumerate(x["mask_positions"]):
            chosen = set(positions[weights[row] > 0].tolist())
            counts.append(len(chosen))
            assert (x["token_ids"] != original)[row].sum() <= len(chosen)
            for column in range(1, original.shape[1]):
                if pieces.id_to_token(original[row, column]).startswith("##"):
                    assert (column in chosen) == (column - 1 in chosen)
                    continued += column in chosen
    assert continued > 20
    assert 4 < np.mean(counts) <= 8


def test_a_model_trains_on_whole_words(reviews):
    pieces = Tokenizer.train(reviews["text"], 60, "wordpiece", progress=False)
    task = MaskedLanguageModeling(pieces, max_length=24, whole_word=True)
    model = task.build(models.transformer_encoder(pieces.vocab_size, 1, 2, 16, max_length=24))
    history = FineTuner(model).fit(task.dataset(reviews), epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_needs_a_mask_token():
    tokenizer = Tokenizer.train(
        ["a film"] * 10, vocab_size=260, special_tokens=["[PAD]", "[UNK]"], progress=False
    )
    with pytest.raises(ValueError, match="no mask token"):
        MaskedLanguageModeling(tokenizer)


def test_mask_rate(tokenizer):
    with pytest.raises(ValueError, match="between 0 and 1"):
        MaskedLanguageModeling(tokenizer, mask_rate=15)
