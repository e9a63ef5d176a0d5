import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from keras_finetune.data import Tokenizer
from keras_finetune.tasks.text_pairs import PairEncoder

WORDS = ["one", "two", "three", "and", "=", "?"]


def tokenizer_of(*special, template=None):
    vocab = {word: number for number, word in enumerate([*special, *WORDS])}
    raw = tokenizers.Tokenizer(models.WordLevel(vocab))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.add_special_tokens(list(special))
    if template:
        marks = [(token, vocab[token]) for token in template.split() if token != "$A"]
        raw.post_processor = processors.TemplateProcessing(single=template, special_tokens=marks)
    return Tokenizer(raw)


def encoder_of(tokenizer, *, decoder_only=False, start_id=None, lengths=(8, 4), separator="="):
    return PairEncoder(tokenizer, decoder_only, start_id, *lengths, separator)


def words(tokenizer, ids):
    return " ".join(tokenizer.id_to_token(int(number)) for number in ids)


def test_bert_like_marks():
    tokenizer = tokenizer_of("[PAD]", "[CLS]", "[SEP]", template="[CLS] $A [SEP]")
    encoder = encoder_of(tokenizer)
    assert (encoder.start_id, encoder.end_id, encoder.pad_id) == (1, 2, 0)
    assert words(tokenizer, encoder.prompts(["one two"])[0]) == "[CLS] one two [SEP]"
    assert words(tokenizer, encoder.targets(["two one two three"])[0]) == "two one two [SEP]"


def test_bart_starts_with_its_end_and_writes_its_beginning():
    tokenizer = tokenizer_of("<s>", "<pad>", "</s>", template="<s> $A </s>")
    encoder = encoder_of(tokenizer, start_id=2)
    assert (encoder.start_id, encoder.end_id, encoder.pad_id) == (2, 2, 1)
    assert words(tokenizer, encoder.targets(["one"])[0]) == "<s> one </s>"
    assert words(tokenizer, encoder.targets(["one two three"])[0]) == "<s> one two </s>"
    # Trained from nothing, a decoder starts with <s> itself.
    assert words(tokenizer, encoder_of(tokenizer).targets(["one"])[0]) == "one </s>"


def test_prompts_of_gpt2_and_of_llama():
    gpt2 = tokenizer_of("<|endoftext|>")
    encoder = encoder_of(gpt2, decoder_only=True, lengths=(4, 4))
    assert encoder.pad_id == encoder.end_id == gpt2.eos_id
    assert words(gpt2, encoder.prompts(["one two three and one"])[0]) == "one two three ="
    llama = tokenizer_of("<s>", "</s>", template="<s> $A")
    encoder = encoder_of(llama, decoder_only=True, lengths=(4, 4))
    assert words(llama, encoder.prompts(["one two three"])[0]) == "<s> one two ="
    assert words(llama, encoder.targets(["one"])[0]) == "one </s>"


def test_columns_of_a_decoder_only_model():
    tokenizer = tokenizer_of("<|endoftext|>")
    columns = encoder_of(tokenizer, decoder_only=True).columns(["one", "two and"], ["two", "one"])
    ids, following = columns["token_ids"], columns["next_ids"]
    np.testing.assert_array_equal(ids.offsets, following.offsets)
    assert words(tokenizer, ids.values) == "one = two two and = one"
    assert words(tokenizer, following.values) == "= two <|endoftext|> and = one <|endoftext|>"
    assert columns["prompt_length"].tolist() == [2, 3]


def test_tokenizers_that_lack_a_token():
    with pytest.raises(ValueError, match=r"no token that ends a text.*Tokenizer\.train"):
        encoder_of(tokenizer_of("[PAD]"))
    with pytest.raises(ValueError, match=r"no token that starts a text.*start_id"):
        encoder_of(tokenizer_of("[PAD]", "[SEP]"))
    assert encoder_of(tokenizer_of("[PAD]", "[SEP]"), start_id=0).start_id == 0


def test_no_room_for_text():
    tokenizer = tokenizer_of("<|endoftext|>")
    with pytest.raises(ValueError, match="separator of 3 tokens"):
        encoder_of(tokenizer, decoder_only=True, lengths=(3, 4), separator="and and =")


@pytest.mark.parametrize("decoder_only", [False, True])
def test_texts_of_which_nothing_remains(decoder_only):
    texts = ["one", "\x00\x01"]
    plain = Tokenizer.train(["one two"], 300, "wordpiece", progress=False)
    encoder = encoder_of(plain, decoder_only=decoder_only)
    for encode in (encoder.prompts, encoder.targets):
        with pytest.raises(ValueError, match="Row 11: the tokenizer makes no token"):
            encode(texts, 10)
