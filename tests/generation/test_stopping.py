import numpy as np
import pytest

from keras_finetune.generation.stopping import Stops


class Letters:
    """A tokenizer whose tokens are the numbers of characters."""

    def decode(self, tokens):
        return "".join(map(chr, tokens))


def tokens(text):
    return np.array([ord(letter) for letter in text], np.int32)


def stops(*texts):
    return Stops(texts, Letters())


@pytest.mark.parametrize(
    ("texts", "given", "kept"),
    [
        ([], "abcabc", "abcabc"),
        (["c"], "abcabc", "ab"),
        (["ca"], "abcabc", "ab"),
        (["x", "bc"], "abcabc", "a"),
        (["cab", "b"], "abcabc", "a"),
        (["a"], "abcabc", ""),
    ],
)
def test_what_stands_before_the_first_stop_text(texts, given, kept):
    found = stops(*texts)
    assert found.cut(tokens(given), as_text=True) == kept
    assert Letters().decode(found.cut(tokens(given), as_text=False)) == kept
    assert found.found(tokens(given)) == (kept != given)


@pytest.mark.parametrize(
    ("text", "length"),
    [("ab", 0), ("ab\n", 1), ("ab\n\n", 2), ("ab</", 2), ("ab</e", 3), ("", 0), ("\n", 1)],
)
def test_the_beginning_of_a_stop_text_is_held_back(text, length):
    assert stops("\n\nQ", "</end>").longest_beginning(text) == length


@pytest.mark.parametrize("texts", [[""], [1], ["a", ""]])
def test_bad_stop_texts(texts):
    with pytest.raises(ValueError, match="texts that are not empty"):
        Stops(texts, Letters())


def test_one_text_is_one_stop_text():
    assert Stops("bc", Letters()).cut(tokens("abc"), as_text=True) == "a"
