import pytest

from keras_finetune.data.rows import CHUNK_ROWS, all_keys, dict_chunks, tuple_chunks


def test_dict_rows_become_chunks_of_columns() -> None:
    rows = [{"a": n, "b": str(n)} for n in range(CHUNK_ROWS + 1)]
    chunks = list(dict_chunks(enumerate(rows), ["b", "a"], "row "))
    assert [len(chunk["a"]) for chunk in chunks] == [CHUNK_ROWS, 1]
    assert chunks[1] == {"b": [str(CHUNK_ROWS)], "a": [CHUNK_ROWS]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"a": 1}, r"row 1: this row has no b; the first row's columns are a, b"),
        ({"a": 1, "b": 2, "c": 3}, r"row 1: this row also has c"),
        ([1, 2], r"row 1: expected a mapping .* got list \[1, 2\]"),
    ],
)
def test_rows_that_differ_are_refused(row: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(dict_chunks(enumerate([{"a": 1, "b": 2}, row]), ["a", "b"], "row "))


def test_no_rows() -> None:
    assert list(tuple_chunks([], ["a"])) == []


def test_all_keys_in_order_of_appearance() -> None:
    assert all_keys(enumerate([{"b": 1}, {"a": 2, "b": 3}, {}]), "row ") == (["b", "a"], 3)
    with pytest.raises(ValueError, match="row 1: expected a mapping"):
        all_keys(enumerate([{"b": 1}, None]), "row ")
