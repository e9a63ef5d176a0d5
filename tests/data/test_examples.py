import itertools

import numpy as np
import pytest

from keras_finetune.data.examples import Examples

TABLE = {"text": ["good", "bad", "fine", "poor"], "label": [1, 0, 1, 0]}


def counted(rows: int, size: int = 7):
    """A stream that notes how many rows were read from it."""
    read = []

    def factory():
        for start in range(0, rows, size):
            numbers = list(range(start, min(start + size, rows)))
            read.extend(numbers)
            yield {"text": [f"text {n}" for n in numbers], "n": numbers}

    return Examples.from_chunks(factory, ["text", "n"]), read


def test_rows_columns_and_length() -> None:
    examples = Examples.from_columns(TABLE)
    assert examples.columns == ("text", "label")
    assert len(examples) == 4
    assert list(examples)[1] == {"text": "bad", "label": 0}
    assert list(examples) == list(examples)  # a second pass is the same
    assert repr(examples) == "Examples(4 rows: text, label)"


def test_arrays_become_python_values_and_matrices_rows() -> None:
    one_hot = np.eye(3, dtype="float32")
    examples = Examples.from_columns({"label": np.arange(3), "target": one_hot})
    rows = list(examples)
    assert type(rows[2]["label"]) is int
    np.testing.assert_array_equal(rows[2]["target"], one_hot[2])


@pytest.mark.parametrize("size", [1, 3, 7, 10, 100])
def test_chunks_have_the_size_asked_for(size: int) -> None:
    examples, _ = counted(25)
    chunks = list(examples.chunks(size))
    assert [len(chunk["n"]) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
    assert list(itertools.chain.from_iterable(chunk["n"] for chunk in chunks)) == list(range(25))


def test_length_of_a_stream_is_counted_once() -> None:
    examples, read = counted(25)
    assert len(examples) == len(examples) == 25
    assert len(read) == 25


def test_truth_does_not_read_the_stream() -> None:
    examples, read = counted(25)
    assert examples
    assert not read


def test_select_keeps_source_order_and_stops_early() -> None:
    examples, read = counted(1000)
    chosen = examples.select(np.array([12, 3, 9]))
    assert chosen.column("n") == [3, 9, 12]
    assert len(chosen) == 3
    assert len(read) <= 14


def test_select_of_select_and_bools() -> None:
    examples = Examples.from_columns({"n": list(range(10))})
    assert examples.select([1, 3, 5, 7]).select([0, 3]).column("n") == [1, 7]
    assert examples.select(np.arange(10) % 4 == 0).column("n") == [0, 4, 8]
    assert examples.select([]).column("n") == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, 10], "row 10 of a set of 10"),
        ([-1], "negative"),
        ([1, 1], "twice"),
        ([0.5], "integers"),
    ],
)
def test_select_refuses_bad_rows(rows: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Examples.from_columns({"n": list(range(10))}).select(rows)


def test_select_past_the_end_of_a_stream() -> None:
    examples, _ = counted(10)
    with pytest.raises(ValueError, match="row 10 of a set of 10"):
        examples.select([0, 10]).column("n")


def test_head_reads_no_more_than_it_needs() -> None:
    examples, read = counted(1000)
    assert examples.head(3).column("n") == [0, 1, 2]
    assert len(read) == 7
    assert len(examples.head(5000)) == 1000
    assert len(examples.head(0)) == 0
    for wrong in (1.5, -1):
        with pytest.raises(ValueError, match=f"n must be an int of at least 0. Received: {wrong}"):
            examples.head(wrong)


def test_rename_and_pick() -> None:
    examples = Examples.from_columns(TABLE, names={"label": ["neg", "pos"]})
    renamed = examples.rename({"label": "class"})
    assert renamed.columns == ("text", "class")
    assert renamed.label_names("class") == ["neg", "pos"]
    assert examples.pick(["label"]).columns == ("label",)
    assert examples.pick({"label": "y", "text": "x"}).columns == ("y", "x")
    with pytest.raises(ValueError, match=r'no column "lable".*Did you mean "label"'):
        examples.rename({"lable": "class"})
    with pytest.raises(ValueError, match="names that differ"):
        examples.rename({"label": "text"})


def test_unknown_column_names_the_columns_there_are() -> None:
    with pytest.raises(ValueError, match=r'"txt". Columns: text, label. Did you mean "text"\?'):
        Examples.from_columns(TABLE).column("txt")


def test_columns_of_different_length() -> None:
    with pytest.raises(ValueError, match=r"differ in length: \{'text': 2, 'label': 1\}"):
        Examples.from_columns({"text": ["a", "b"], "label": [1]})


@pytest.mark.parametrize("values", ["abc", 5, np.array(5)])
def test_a_column_is_a_list(values: object) -> None:
    with pytest.raises(ValueError, match='Column "text" is a'):
        Examples.from_columns({"text": values})


def test_no_columns() -> None:
    with pytest.raises(ValueError, match="no column"):
        Examples.from_columns({})


def test_fingerprint_follows_the_content() -> None:
    def of(**columns: object) -> str:
        return Examples.from_columns(columns).fingerprint

    base = of(text=["a", "b"], label=[0, 1])
    assert base == of(text=("a", "b"), label=np.array([0, 1]))
    assert base != of(text=["a", "c"], label=[0, 1])
    assert base != of(text=["a", "b"], label=["0", "1"])
    assert base != of(text=["a", "b"], tag=[0, 1])
    assert of(text=["ab", "c"]) != of(text=["a", "bc"])
    long, other = np.zeros((3, 5000)), np.zeros((3, 5000))
    other[1, 2500] = 1  # in the middle, where repr() of an array shows dots
    assert of(x=long) != of(x=other)


def test_fingerprint_follows_selection_and_names() -> None:
    examples = Examples.from_columns(TABLE)
    prints = {
        examples.fingerprint,
        examples.select([0, 1]).fingerprint,
        examples.select([0, 2]).fingerprint,
        examples.head(2).fingerprint,
        examples.rename({"text": "body"}).fingerprint,
    }
    assert len(prints) == 5
    assert examples.select([1, 0]).fingerprint == examples.select([0, 1]).fingerprint


def test_a_given_fingerprint_saves_the_pass() -> None:
    examples = Examples.from_chunks(lambda: pytest.fail("was read"), ["text"], fingerprint="v1")
    assert examples.fingerprint == "v1"


def test_label_names() -> None:
    def of(labels: list) -> list[str]:
        return Examples.from_columns({"label": labels}).label_names()

    assert of(["spam", "ham", "spam"]) == ["ham", "spam"]
    assert of([10, 2, 2]) == ["2", "10"]  # numbers in order of size
    assert of([["a", "b"], [], ["c"]]) == ["a", "b", "c"]
    assert of([np.array([3, 1]), np.array([2])]) == ["1", "2", "3"]


@pytest.mark.parametrize("label", [None, float("nan"), 0.5])
def test_label_that_is_no_class(label: object) -> None:
    with pytest.raises(ValueError, match='Row 1, column "label"'):
        Examples.from_columns({"label": [1, label]}).label_names()


@pytest.mark.parametrize("odd", [1, True, np.int64(1)])
def test_labels_of_two_kinds(odd: object) -> None:
    for labels in (["neg", "pos", odd, odd], [odd, odd, "pos", "neg"], [["neg"], [], ["pos", odd]]):
        with pytest.raises(ValueError, match=r'Row 2, column "label": .* row 0 has .*str\(\)'):
            Examples.from_columns({"label": labels}).label_names()
