import numpy as np
import pytest

from keras_finetune.data import Tokenizer
from keras_finetune.tasks.whole_words import WholeWords

TEXTS = ["believable words, unbelievable worlds", "believe a word"] * 4


def words_of(tokenizer, text):
    """The pieces of a text, those of a word together."""
    ids = np.array([tokenizer.encode(text)])
    begins = WholeWords(tokenizer).begins(ids, np.ones_like(ids))[0]
    numbers = begins.cumsum()
    return [
        "".join(tokenizer.id_to_token(i) for i in ids[0][numbers == n]).replace("##", "")
        for n in range(1, numbers[-1] + 1)
    ]


def test_word_pieces():
    tokenizer = Tokenizer.train(TEXTS, 36, "wordpiece", progress=False)
    text = "unbelievable words, a word"
    assert len(tokenizer.encode(text)) > 7
    expected = ["[CLS]", "unbelievable", "words", ",", "a", "word", "[SEP]"]
    assert words_of(tokenizer, text) == expected


def test_byte_pairs():
    tokenizer = Tokenizer.train(TEXTS, 280, progress=False)
    found = words_of(tokenizer, "unbelievable words, a\nword")
    # New lines are tokens of their own, and what follows them is a new word.
    expected = ["[CLS]", "unbelievable", "Ġwords,", "Ġa", "Ċ", "word", "[SEP]"]
    assert found == expected


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_a_piece_of_chinese_is_a_word(kind):
    texts = ["我们去图书馆,明天 reading。", "图书馆在学校。", "reading a reading"] * 4
    tokenizer = Tokenizer.train(texts, 280, kind, progress=False)
    ids = np.array(tokenizer.encode("我们去图书馆 reading。"))
    begins = WholeWords(tokenizer).begins(ids[None], np.ones_like(ids)[None])[0]
    words = [tokenizer.decode(part).strip() for part in np.split(ids, np.flatnonzero(begins)[1:])]
    words = [word for word in words if word not in ("", "[CLS]", "[SEP]")]
    assert words[-2:] == ["reading", "。"]
    assert "".join(words[:-2]) == "我们去图书馆"
    assert len(words) > 3


def test_texts_that_share_a_row_share_no_word():
    tokenizer = Tokenizer.train(TEXTS, 280, progress=False)
    ids = np.array([tokenizer.encode_batch(["words"], special_tokens=False).token_ids])
    starts = np.concatenate([np.ones_like(ids), np.full_like(ids, ids.shape[1] + 1)], 1)
    begins = WholeWords(tokenizer).begins(np.concatenate([ids, ids], 1), starts)
    assert np.flatnonzero(begins[0]).tolist() == [0, ids.shape[1]]


def test_chosen_words_are_whole_and_not_too_many():
    tokenizer = Tokenizer.train(TEXTS, 36, "wordpiece", progress=False)
    words = WholeWords(tokenizer)
    ids = np.array([tokenizer.encode("unbelievable words, a word")] * 200)
    starts = np.ones_like(ids)
    starts[:, -1] = 0
    chosen = words.choose(ids, starts, np.full(200, 3), np.random.default_rng(0))
    assert not chosen[:, -1].any()
    assert set(chosen.sum(1)) <= {1, 2, 3}
    number = words.begins(ids, starts).cumsum(1)
    for row in range(200):
        inside = set(number[row][chosen[row]])
        assert inside.isdisjoint(number[row][~chosen[row]])
    sizes = np.bincount(number[0])
    seen = {n for row in range(200) for n in number[row][chosen[row]]}
    last = number[0, -1]
    assert seen == {n for n in range(1, last) if sizes[n] <= 3}


def test_characters_show_no_words():
    tokenizer = Tokenizer.train(TEXTS, 60, "char", progress=False)
    with pytest.raises(ValueError, match="whole_word=True needs a tokenizer"):
        WholeWords(tokenizer)
