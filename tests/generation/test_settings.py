"""What bad input gets: what was wrong, and the fix."""

import keras
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
        ({"temperature": -1.0}, "temperature must be 0, which takes .* Received: -1.0"),
        ({"temperature": float("nan")}, "temperature must be a finite number"),
        ({"temperature": "1"}, "temperature must be a finite number"),
        ({"temperature": 1e-310}, "temperature must be 0.* or at least 1e-06. Received: 1e-310"),
        ({"length_penalty": float("inf")}, "length_penalty must be a finite number"),
        ({"length_penalty": 1000.0}, "length_penalty must be from -50 to 50.* Received: 1000.0"),
        ({"length_penalty": -51}, "length_penalty must be from -50 to 50.* Received: -51"),
        ({"temperature": 1.0, "top_k": 2.5}, "top_k must be an int of at least 1, or None"),
        ({"batch_size": 0}, "batch_size must be an int of at least 1"),
        ({"seed": -1}, "seed must be an int of at least 0"),
        ({"stop": 3}, "stop must be texts"),
        ({"end_id": "x"}, "end_id must be a token id"),
        ({"end_id": 1.5}, "end_id must be a token id, or several. Received: 1.5"),
        ({"end_id": np.array(50)}, "from 0 to 49, or -1 for none. Received: 50"),
        ({"end_id": 50}, "from 0 to 49, or -1 for none. Received: 50"),
        ({"end_id": [3, -2]}, "from 0 to 49, or -1 for none. Received: -2"),
        ({"pad_id": 50}, "pad_id must be a token id that the model knows, from 0 to 49"),
        ({"pad_id": -1}, "Received: -1"),
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
        ("text", r"a list of prompts.* Put it in \[...\]"),
        ({"token_ids": [[1]]}, "a list of prompts.* Make it such a list"),
        ({(1, 2)}, "a list of prompts.* Make it such a list"),
        (([1] for _ in range(2)), "a list of prompts.* Make it such a list"),
        (None, "a list of prompts"),
        ([1, 2, 3], r"\[\[5, 6\]\], not \[5, 6\]"),
        ([None], "A prompt must be a text, or a list of token ids"),
        ([["a"]], "A prompt must be a text, or a list of token ids"),
        ([[[1], [2, 3]]], "A prompt must be a text, or a list of token ids"),
        ([np.array([1.5, 2.5])], "which are ints"),
        ([[-1]], "from 0 to 49. Received the id -1"),
        ([[3, 50]], "from 0 to 49. Received the id 50"),
        (["text"], "Texts need a tokenizer"),
        (
            [[1], "text"],
            r"all texts or all lists of token ids.* Received \[1\] and, in row 1, 'text'",
        ),
        ([[1], []], "Prompt 1 has no tokens"),
        ([np.ones(17, int)], "Use shorter prompts"),
    ],
)
def test_prompts(model, prompts, message):
    with pytest.raises(ValueError, match=message):
        kft.generation.generate(model, prompts, max_new_tokens=2, end_id=-1)


def test_a_text_without_a_tokenizer_asks_for_one(model):
    with pytest.raises(ValueError, match="Texts need a tokenizer"):
        kft.generation.generate(model, ["text"])


def test_a_tokenizer_that_knows_more_tokens_than_the_model():
    tokenizer = kft.data.Tokenizer.train(["one two three"], vocab_size=300, progress=False)
    model = models.language_model(models.transformer_decoder(50, **SMALL))
    model.tokenizer = tokenizer
    with pytest.raises(ValueError, match=r"Received the id \d+ .* by another tokenizer"):
        kft.generation.generate(model, ["three"], max_new_tokens=2, end_id=-1)


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


def test_what_is_no_model(model):
    with pytest.raises(ValueError, match=r"Received FineTuner\. Give its attribute `model`"):
        kft.generation.generate(kft.FineTuner(model), [[1]])
    with pytest.raises(ValueError, match=r"needs a Keras model\. Received NoneType"):
        kft.generation.generate(None, [[1]])


def test_an_encoder_with_more_inputs_is_an_encoder_still():
    segments = models.transformer_encoder(50, num_segments=2, **SMALL)
    with pytest.raises(ValueError, match="no head that predicts them"):
        kft.generation.generate(segments, [[1]], end_id=-1)
    masked = models.masked_language_model(models.transformer_encoder(50, **SMALL))
    with pytest.raises(ValueError, match="the model is an encoder"):
        kft.generation.generate(masked, [[1]], end_id=-1)


def test_a_backbone_within_a_model_is_looked_into():
    def within(backbone):
        logits = keras.layers.Dense(50, name="head_logits")(backbone(backbone.input))
        return keras.Model(backbone.input, logits)

    decoder = within(models.transformer_decoder(50, **SMALL))
    encoder = within(models.transformer_encoder(50, **SMALL))
    with pytest.raises(ValueError, match="has 16 positions"):
        kft.generation.generate(decoder, [[1]], max_new_tokens=17, end_id=-1)
    with pytest.raises(ValueError, match="the model is an encoder"):
        kft.generation.generate(encoder, [[1]], end_id=-1)


def test_inputs_that_generation_does_not_give():
    inputs = models.transformer_decoder(50, **SMALL).input
    inputs["segment_ids"] = keras.Input((None,), dtype="int32", name="segment_ids")
    both = keras.layers.Add()([keras.layers.Embedding(50, 50)(x) for x in inputs.values()])
    message = (
        "gives a model token_ids, padding_mask. Received 'm', which has the inputs segment_ids"
    )
    with pytest.raises(ValueError, match=message):
        kft.generation.generate(keras.Model(inputs, both, name="m"), [[1]], end_id=-1)


class Table(keras.layers.Layer):
    def build(self, _):
        self.table = self.add_weight(shape=(50, 50))

    def call(self, ids):
        return keras.ops.take(self.table, ids, axis=0)


def test_an_embedding_of_another_kind():
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    model = keras.Model({"token_ids": ids}, Table(name="token_embedding")(ids))
    (new,) = kft.generation.generate(model, [[1, 2, 3]], max_new_tokens=4, end_id=-1)
    table = keras.ops.convert_to_numpy(model.get_layer("token_embedding").table)
    assert new[0] == table[3].argmax()


def test_positions_of_both_sides():
    model = models.language_model(models.encoder_decoder(50, **SMALL))
    options = {"end_id": -1, "start_id": 1}
    with pytest.raises(ValueError, match="Use max_new_tokens=16"):
        kft.generation.generate(model, [[1]], max_new_tokens=17, **options)
    with pytest.raises(ValueError, match=r"the longest has 17 tokens\. Cut it off"):
        kft.generation.generate(model, [[1] * 17], max_new_tokens=4, **options)
    with pytest.raises(ValueError, match="Give start_id"):
        kft.generation.generate(model, [[1]], max_new_tokens=4, end_id=-1)
    for start_id in (50, -1):
        with pytest.raises(ValueError, match=f"start_id must be .* Received: {start_id}"):
            kft.generation.generate(model, [[1]], end_id=-1, start_id=start_id, max_new_tokens=4)


@pytest.mark.parametrize("prompts", [["a"], [[1, 2]]])
def test_a_stream_is_of_one_prompt(prompts):
    tokenizer = kft.data.Tokenizer.train(["one two"], vocab_size=300, progress=False)
    model = models.language_model(models.transformer_decoder(tokenizer.vocab_size, **SMALL))
    model.tokenizer = tokenizer
    with pytest.raises(ValueError, match=r"stream takes one prompt.* Give it one of these"):
        kft.generation.stream(model, prompts)


def test_a_stream_needs_a_tokenizer(model):
    with pytest.raises(ValueError, match=r"model\.tokenizer"):
        kft.generation.stream(model, [1, 2])
