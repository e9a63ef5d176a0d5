import collections

import pytest

from keras_finetune.data.docstring_splits import split_of, with_one_home
from keras_finetune.data.docstrings import Docstring


def test_split_of_is_fixed():
    # A split that moves between versions of this library would leak test text into training.
    names = ("a", "array", "numpy.ma.core")
    assert [split_of(name) for name in names] == ["train", "validation", "test"]


def test_split_of_has_about_80_10_10_per_cent():
    counts = collections.Counter(split_of(f"module_{n}") for n in range(10_000))
    assert counts["train"] == pytest.approx(8000, abs=200)
    assert counts["validation"] == pytest.approx(1000, abs=150)
    assert counts["test"] == pytest.approx(1000, abs=150)


def test_with_one_home_keeps_the_first_of_one_split_and_none_of_two():
    train, again, test = "a", "module_1", "numpy.ma.core"
    assert [split_of(name) for name in (train, again, test)] == ["train", "train", "test"]
    one, two, other = (Docstring("numpy", name, "f", "") for name in (train, again, test))
    found = [("kept", one), ("kept", two), ("dropped", one), ("dropped", other)]
    assert with_one_home(found) == {"kept": one}
