import pickle

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, models, pre_tokenizers, processors

from keras_finetune.data import Tokenizer
from keras_finetune.data import word_encoder as module
from keras_finetune.data.encoded_batch import encode_all
from keras_finetune.data.word_encoder import WordEncoder, has_words

TEXTS = [
    "The cat sat on the mat, and the dog (a big one) did not.",
    "It's 1,234.5 degrees; don't panic!  Two spaces, a tab\tand\nlines\r\n ends ",
    " leading, and trailing  ",
    "Steps:\n 1. mix\n 2. bake \n\n \t3. wait\u00a0 or not \u2009 ",
    "Ünïcödé e\u0301 naïve — dashes… 你好，世界 hello",
    "",
    " ",
    "[SEP] in a text, and [MASK], x[CLS]y",
]


def wordpiece(**options):
    return Tokenizer.train(TEXTS * 3, 400, "wordpiece", progress=False, **options)._tokenizer


def byte_pairs(digits=False, prefix=False):
    trained = Tokenizer.train(TEXTS * 3, 400, "bpe", progress=False)._tokenizer
    parts = [pre_tokenizers.ByteLevel(add_prefix_space=prefix)]
    if digits:
        parts.insert(0, pre_tokenizers.Digits(individual_digits=True))
    trained.pre_tokenizer = pre_tokenizers.Sequence(parts) if digits else parts[0]
    return trained


TOKENIZERS = {
    "wordpiece": wordpiece(),
    "cased": wordpiece(lowercase=False),
    "bytes": byte_pairs(),
    "bytes and digits": byte_pairs(digits=True),
    "bytes with a space first": byte_pairs(prefix=True),
}
PIECES = st.one_of(
    st.sampled_from(["the", "cat", "don't", " ", "  ", "1,2", "[SEP]", "é", "e\u0301"]),
    st.sampled_from(["\t", "\n", "\r", "\u00a0", "\u2009", "\x1c", " \n", "\n ", "\n 1", "\n\n "]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)


def expected(tokenizer, texts, max_length, special_tokens):
    encoder = tokenizers.Tokenizer.from_str(tokenizer.to_str())
    if max_length is not None:
        encoder.enable_truncation(max_length)
    return encode_all(encoder, texts, paired=False, special_tokens=special_tokens)


def assert_same(encoder, tokenizer, texts, max_length=None, special_tokens=True):
    found = encoder.encode(texts, max_length, special_tokens)
    wanted = expected(tokenizer, texts, max_length, special_tokens)
    np.testing.assert_array_equal(found.offsets, wanted.offsets)
    np.testing.assert_array_equal(found.token_ids, wanted.token_ids)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("max_length", [None, 5, 12])
@pytest.mark.parametrize("special_tokens", [True, False])
def test_ids_are_the_tokenizers(name, max_length, special_tokens):
    encoder = WordEncoder(TOKENIZERS[name])
    for texts in (TEXTS, TEXTS[::-1], TEXTS[:1]):
        assert_same(encoder, TOKENIZERS[name], texts, max_length, special_tokens)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.lists(PIECES, max_size=8).map("".join), min_size=1, max_size=4))
@pytest.mark.parametrize("name", TOKENIZERS)
def test_ids_are_the_tokenizers_whatever_the_text(name, texts):
    encoder = WordEncoder(TOKENIZERS[name])
    if encoder.encode(texts, 9, True) is None:
        assert any("\0" in text for text in texts)
    else:
        assert_same(encoder, TOKENIZERS[name], texts, 9)
        assert_same(encoder, TOKENIZERS[name], texts, special_tokens=False)


def test_tokens_that_may_reach_across_spaces_are_seen():
    reaching = wordpiece()
    reaching.add_special_tokens([AddedToken("two words")])
    whole = tokenizers.Tokenizer(models.BPE())
    split = tokenizers.Tokenizer(models.BPE())
    split.pre_tokenizer = pre_tokenizers.Metaspace()
    for tokenizer in (reaching, whole, split):
        assert not has_words(tokenizer)
    assert all(map(has_words, TOKENIZERS.values()))


def test_special_tokens_on_both_sides_and_on_none():
    tokenizer = byte_pairs()
    assert_same(WordEncoder(tokenizer), tokenizer, TEXTS, 6)
    tokenizer.post_processor = processors.ByteLevel()
    assert_same(WordEncoder(tokenizer), tokenizer, TEXTS, 6)


def test_words_are_forgotten_and_learnt_again(monkeypatch):
    monkeypatch.setattr(module, "_MOST_WORDS", 10)
    encoder = WordEncoder(TOKENIZERS["wordpiece"])
    for _ in range(3):
        assert_same(encoder, TOKENIZERS["wordpiece"], TEXTS)
        assert len(encoder._numbers) == 0


def test_texts_whose_words_do_not_repeat_are_left_to_the_tokenizer(monkeypatch):
    monkeypatch.setattr(module, "_WORDS_TO_JUDGE", 5)
    encoder = WordEncoder(TOKENIZERS["wordpiece"])
    assert_same(encoder, TOKENIZERS["wordpiece"], ["all of these words are new"])
    assert encoder.encode(["more"], None, True) is None


def test_half_a_character_is_left_to_the_tokenizer():
    encoder = WordEncoder(TOKENIZERS["wordpiece"])
    assert encoder.encode(["a", "b \ud800 c"], None, True) is None
    assert_same(encoder, TOKENIZERS["wordpiece"], TEXTS)


def test_a_tokenizer_uses_it_for_many_texts_and_can_be_pickled():
    tokenizer = Tokenizer(TOKENIZERS["wordpiece"])
    texts = TEXTS * 50
    found = tokenizer.encode_batch(texts, max_length=8)
    assert len(tokenizer._word_encoder._numbers) > 10
    wanted = expected(TOKENIZERS["wordpiece"], texts, 8, True)
    np.testing.assert_array_equal(found.token_ids, wanted.token_ids)
    again = pickle.loads(pickle.dumps(tokenizer))
    np.testing.assert_array_equal(
        again.encode_batch(texts, max_length=8).token_ids, wanted.token_ids
    )
    with pytest.raises(ValueError, match="Row 400: the text has half a character"):
        tokenizer.encode_batch([*texts, "\ud800"])
