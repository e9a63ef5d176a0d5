"""What bad input gets: what was wrong, and the fix."""

import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune import models

SMALL = {"num_layers": 1, "num_heads": 2, "hidden_dim": 16, "max_length": 16}


@pytest.fixture(scope="module")
def model():
    return models.language_model(models.transformer_decoder(50, **SMALL))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be an int of at least 1. Received: 0"),
        ({"num_beams": 0}, "num_beams must be an int of at least 1. Received: 0"),
        ({"num_beams": 2.5}, "num_beams must be an int"),
        ({"temperature": -1.0}, "temperature must be at least 0"),
        ({"temperature": float("nan")}, "temperature must be a finite number"),
        ({"temperature": "1"}, "temperature must be a finite number"),
        ({"length_penalty": float("inf")}, "length_penalty must be a finite number"),
        ({"temperature": 1.0, "top_k": 2.5}, "top_k must be an int of at least 1, or None"),
        ({"batch_size": 0}, "batch_size must be an int of at least 1"),
        ({"seed": -1}, "seed must be an int of at least 0"),
        ({"stop": 3}, "stop must be texts"),
        ({"end_id": "x"}, "end_id must be a token id"),
        ({"temperature": 1.0, "top_k": 0}, "top_k must be an int of at least 1"),
        ({"temperature": 1.0, "top_p": 1.5}, "top_p must be above 0"),
        ({"top_k": 5}, "Give a temperature"),
        ({"temperature": 1.0, "num_beams": 2}, "Beam search does not sample"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size must be"),
        ({"stop": ["x"]}, "needs a tokenizer"),
        ({"end_id": None}, "Give end_id"),
        ({"max_new_tokens": 15}, "Use max_new_tokens=14"),
    ],
)
def test_arguments(model, options, message):
    with pytest.raises(ValueError, match=message):
        kft.generation.generate(
            model, [[1, 2, 3]], **{"end_id": -1, "max_new_tokens": 5, **options}
        )


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ("text", "a list of prompts"),
        (None, "a list of prompts"),
        ([1, 2, 3], r"\[\[5, 6\]\], not \[5, 6\]"),
        ([None], "A prompt must be a text, or a list of token ids"),
        ([["a"]], "A prompt must be a text, or a list of token ids"),
        ([[[1], [2, 3]]], "A prompt must be a text, or a list of token ids"),
        ([np.array([1.5, 2.5])], "which are ints"),
        ([[-1]], "from 0 to 49. Received the id -1"),
        ([[3, 50]], "from 0 to 49. Received the id 50"),
        (["text"], "Texts need a tokenizer"),
        ([[1], []], "Prompt 1 has no tokens"),
        ([np.ones(17, int)], "Use shorter prompts"),
    ],
)
def test_prompts(model, prompts, message):
    with pytest.raises(ValueError, match=message):
        kft.generation.generate(model, prompts, max_new_tokens=2, end_id=-1)


def test_numpy_numbers_are_numbers(model):
    new = kft.generation.generate(
        model, [[1]], max_new_tokens=np.int64(2), temperature=np.float32(1), end_id=np.int32(-1)
    )
    assert len(new[0]) == 2


def test_no_prompts(model):
    assert kft.generation.generate(model, []) == []


def test_models_that_do_not_generate():
    encoder = models.transformer_encoder(50, **SMALL)
    for other, message in (
        (models.text_classifier(encoder, 3), "not logits of each token's successor"),
        (encoder, "no head that predicts them|knows 50 tokens"),
        (models.question_answerer(encoder), "knows 50 tokens"),
        (models.transformer_decoder(50, **SMALL), "knows 50 tokens"),
    ):
        with pytest.raises(ValueError, match=message):
            kft.generation.generate(other, [[1]], end_id=-1)


def test_an_encoder_with_scores_of_tokens():
    encoder = models.transformer_encoder(16, **SMALL)  # Its features look like logits.
    with pytest.raises(ValueError, match="sees later tokens, so that the model is an encoder"):
        kft.generation.generate(encoder, [[1]], end_id=-1)


def test_positions_of_both_sides():
    model = models.language_model(models.encoder_decoder(50, **SMALL))
    options = {"end_id": -1, "start_id": 1}
    with pytest.raises(ValueError, match="Use max_new_tokens=16"):
        kft.generation.generate(model, [[1]], max_new_tokens=17, **options)
    with pytest.raises(ValueError, match=r"the longest has 17 tokens\. Cut it off"):
        kft.generation.generate(model, [[1] * 17], max_new_tokens=4, **options)
    with pytest.raises(ValueError, match="Give start_id"):
        kft.generation.generate(model, [[1]], max_new_tokens=4, end_id=-1)


def test_a_stream_needs_a_tokenizer(model):
    with pytest.raises(ValueError, match=r"model\.tokenizer"):
        kft.generation.stream(model, [1, 2])
