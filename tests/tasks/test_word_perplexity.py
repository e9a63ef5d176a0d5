import math

import keras
import numpy as np
import pytest

from keras_finetune import models
from keras_finetune.data import Tokenizer, read
from keras_finetune.tasks import LanguageModeling
from keras_finetune.tasks.word_perplexity import count_words, perplexities

TEXTS = ["abc de", "f  ghij k"]


@pytest.fixture(scope="module")
def letters():
    return Tokenizer.train(TEXTS, 40, "char", min_frequency=1, progress=False)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        (" \n", 0),
        ("a b\tc\n", 3),
        ("it's well-known.", 2),
        ("车站在哪里?", 6),
        ("我用 Keras 3", 4),
    ],
)
def test_words(text, count):
    assert count_words(text) == count


def test_by_hand(letters):
    # 6 and 9 characters and a separator each are 17 tokens; the words are 2 and 3.
    found = perplexities(0.5, read({"text": TEXTS}), letters, "text")
    assert found["perplexity"] == pytest.approx(math.exp(0.5))
    assert found["word_perplexity"] == pytest.approx(math.exp(0.5 * 17 / 5))


def test_what_no_float_holds(letters):
    found = perplexities(8.0, read({"text": ["a" * 1_000]}), letters, "text")
    assert found["word_perplexity"] == math.inf
    assert perplexities(8.0, read({"text": [" "]}), letters, "text")["word_perplexity"] == math.inf


@pytest.mark.parametrize("separate_texts", [False, True])
def test_a_model_that_knows_nothing(letters, separate_texts):
    """Equal logits make each token cost log(vocab_size), whatever of the text fills rows."""
    task = LanguageModeling(letters, max_length=8, separate_texts=separate_texts)
    model = task.build(models.transformer_decoder(letters.vocab_size, 1, 2, 8, max_length=8))
    for variable in model.trainable_variables:
        variable.assign(keras.ops.zeros_like(variable))
    found = task.evaluate(model, TEXTS)
    assert found["perplexity"] == pytest.approx(letters.vocab_size, rel=1e-4)
    expected = np.log(letters.vocab_size) * 17 / 5
    assert math.log(found["word_perplexity"]) == pytest.approx(expected, rel=1e-4)
