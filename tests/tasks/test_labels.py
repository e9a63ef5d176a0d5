import numpy as np
import pytest

from keras_finetune.tasks.labels import are_vectors, class_numbers, multi_hot


def numbers(*values, labels=("ham", "spam")):
    return class_numbers(values, labels, column="kind", first_row=100).tolist()


def test_names_numbers_and_numbers_as_text():
    assert numbers("ham", np.str_("spam")) == [0, 1]
    assert numbers(0, 1, "1", np.int32(1), True) == [0, 1, 1, 1, 1]
    assert numbers("7", "8", labels=("7", "8")) == [0, 1]  # A name that looks like a number.


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2, r"label 2 in row 101, which is not one.*0='ham', 1='spam'"),
        (-1, "label -1"),
        ("spma", 'Did you mean "spam"'),
        ("2", "label '2'"),
        (None, "is missing"),
        (float("nan"), "is missing"),
        (1.0, "a float, but a label is a name or a whole number"),
        (["ham"], "multi_label=True"),
    ],
)
def test_refused(value, message):
    with pytest.raises(ValueError, match=message):
        numbers("ham", value)


@pytest.mark.parametrize("odd", [1, True, "1", np.int64(0)])
def test_names_and_numbers_in_one_column_are_refused(odd):
    for first, other in (("ham", odd), (odd, "ham")):
        with pytest.raises(ValueError, match=r"in row 102, .* in row 100 .* all as names, or all"):
            numbers(first, first, other, other)
        with pytest.raises(ValueError, match=r"in row 2, .* in row 0 .* all as names, or all"):
            multi_hot([[first], [], [other]], ["ham", "spam"], column="tags")


def test_multi_hot():
    for found in ([["b"], [], ["a", "c"]], [[1], [], [0, 2]]):
        found = multi_hot(found, "abc", column="tags")
        assert found.tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 1]]
    assert multi_hot([[], []], "abc", column="tags").tolist() == [[0, 0, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="'z' in row 5"):
        multi_hot([["a"], ["z"]], "abc", column="tags", first_row=4)
    with pytest.raises(ValueError, match="expects a list of labels"):
        multi_hot(["a"], "abc", column="tags")


VECTORS = [[1, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("rows", "labels", "expected"),
    [
        (VECTORS, "abc", True),
        (np.array(VECTORS, np.float32), "abc", True),
        ([[True, False], [False, True]], "ab", True),
        ([[0, 1], [0, 0]], "ab", True),
        ([[0], [1]], "a", True),
        ([[0, 1], [1]], "ab", False),
        ([[], [0]], "a", False),
        ([["a", "b", "c"]], "abc", False),
        ([], "abc", False),
    ],
)
def test_vectors_are_told_from_lists(rows, labels, expected):
    assert are_vectors(rows, labels, column="tags") is expected


@pytest.mark.parametrize(("rows", "labels"), [([[0, 1], [1, 0]], "ab"), ([[0], [0]], "a")])
def test_a_column_that_may_be_both_is_refused(rows, labels):
    with pytest.raises(ValueError, match=r"'tags' has rows such as .* lists of names"):
        are_vectors(rows, labels, column="tags")


def test_vectors():
    for rows in (VECTORS, np.array(VECTORS, bool), list(np.array(VECTORS, np.float32))):
        assert multi_hot(rows, "abc", column="tags", vectors=True).tolist() == VECTORS
    for rows in ([*VECTORS, [2]], [*VECTORS, [0, 1]], [*VECTORS, [0, 1, 2]]):
        with pytest.raises(ValueError, match=r"in row 6, .* in every row 3 entries"):
            multi_hot(rows, "abc", column="tags", first_row=4, vectors=True)
    for row in ([0, 1, 1, 0], [1, 1], [True, False]):
        with pytest.raises(ValueError, match=r"in row 5, .* in every row 3 entries"):
            multi_hot([[0], row], "abc", column="tags", first_row=4)


def test_names_that_are_numbers_are_names_however_they_are_stored():
    for values in ([1, 3, 2], ["1", "3", "2"], list(np.array([1, 3, 2]))):
        assert class_numbers(values, ["1", "2", "3"], column="stars").tolist() == [0, 2, 1]
    with pytest.raises(ValueError, match="the label 0 in row 1"):
        class_numbers([1, 0], ["1", "2", "3"], column="stars")
