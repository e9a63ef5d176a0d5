import keras
import numpy as np
import pytest

import keras_finetune as kft

TEXTS = [f"the {a} sat on the {b}" for a in ("cat", "dog", "hen") for b in ("mat", "log")] * 10
TEXTS += ["", " ".join(["a long text that fills more than one row"] * 8)]


@pytest.fixture(scope="module")
def tokenizer():
    return kft.data.Tokenizer.train(TEXTS, vocab_size=300, progress=False)


def decoder(tokenizer, **arguments):
    return kft.models.transformer_decoder(
        tokenizer.vocab_size, 1, 2, 16, max_length=32, dropout=0.0, **arguments
    )


def test_a_row_holds_whole_texts_and_each_token_the_next_of_its_text(tokenizer):
    task = kft.tasks.LanguageModeling(tokenizer, max_length=32, separate_texts=True)
    seen = 0
    for x, y, weights in task.dataset(TEXTS, batch_size=4).as_numpy_iterator():
        ids, starts = x["token_ids"], x["padding_mask"]
        assert ids.shape[1] <= 32
        np.testing.assert_array_equal(weights, starts > 0)
        for row in range(len(ids)):
            for start in np.unique(starts[row][starts[row] > 0]):
                inside = starts[row] == start
                assert inside.argmax() == start - 1
                np.testing.assert_array_equal(ids[row][inside][1:], y[row][inside][:-1])
                seen += 1
    pieces = [len(t) for t in tokenizer.encode_batch([TEXTS[-1]], special_tokens=False)]
    assert seen == 60 + -(-pieces[0] // 32)


def test_little_is_padding(tokenizer):
    task = kft.tasks.LanguageModeling(tokenizer, max_length=32, separate_texts=True)
    alone = kft.tasks.TextClassification(["a", "b"], tokenizer, max_length=32)
    rows = {"text": TEXTS[:60], "label": ["a", "b"] * 30}
    packed, padded = task.dataset(TEXTS[:60], batch_size=4), alone.dataset(rows, batch_size=4)
    assert len(packed.plan(0).rows) < len(padded.plan(0).rows) / 2
    assert packed.plan(0).padding_share < 0.15


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_packing_gives_the_perplexity_of_the_texts_one_by_one(tokenizer, positions):
    keras.utils.set_random_seed(0)
    task = kft.tasks.LanguageModeling(tokenizer, max_length=32, separate_texts=True)
    model = task.build(decoder(tokenizer, positions=positions))
    kft.FineTuner(model).fit(task.dataset(TEXTS), epochs=2, verbose=0)
    packed = model.evaluate(task.dataset(TEXTS[:60], batch_size=60), return_dict=True, verbose=0)
    losses = [task.evaluate(model, [text])["loss"] for text in TEXTS[:6]]
    assert packed["loss"] == pytest.approx(np.mean(losses), rel=1e-4)


def test_masked_tokens_are_real_ones_and_their_share_is_that_of_the_row(tokenizer):
    task = kft.tasks.MaskedLanguageModeling(
        tokenizer, max_length=32, mask_rate=0.25, separate_texts=True
    )
    for x, hidden, weights in task.dataset(TEXTS, batch_size=5).as_numpy_iterator():
        mask = x["padding_mask"]
        at = np.take_along_axis(mask, x["mask_positions"], axis=1)
        assert (at[weights > 0] > 0).all()
        original = x["token_ids"].copy()
        np.put_along_axis(original, x["mask_positions"], hidden, axis=1)
        share = 0.25 * ((mask > 0) & (original != tokenizer.sep_id)).sum(axis=1)
        assert (abs(weights.sum(axis=1) - share) < 1).all()
        shown = np.take_along_axis(x["token_ids"], x["mask_positions"], axis=1)
        np.testing.assert_array_equal(shown[weights == 0], hidden[weights == 0])
        assert (shown[weights > 0] == tokenizer.mask_id).mean() > 0.5


def test_a_masked_model_trains_on_packed_rows(tokenizer):
    task = kft.tasks.MaskedLanguageModeling(tokenizer, max_length=32, separate_texts=True)
    backbone = kft.models.transformer_encoder(tokenizer.vocab_size, 1, 2, 16, max_length=32)
    model = task.build(backbone, learning_rate=1e-2)
    history = kft.FineTuner(model).fit(task.dataset(TEXTS, batch_size=4), epochs=3, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]


def test_backbones_that_would_mix_texts_are_refused(tokenizer):
    task = kft.tasks.LanguageModeling(tokenizer, max_length=32, separate_texts=True)
    with pytest.raises(ValueError, match="separate_texts=True needs a transformer"):
        task.build(kft.models.lstm_encoder(tokenizer.vocab_size, hidden_dim=16))


def test_no_text_is_an_error(tokenizer):
    task = kft.tasks.LanguageModeling(tokenizer, max_length=32, separate_texts=True)
    with pytest.raises(ValueError, match="There is no text in column 'text'"):
        task.dataset(["", ""])
