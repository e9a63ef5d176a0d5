import numpy as np

from keras_finetune.data.fingerprint import combine, hash_chunks


def of(values: list) -> str:
    return hash_chunks(["x"], [{"x": values}])


def test_parts_do_not_run_together() -> None:
    assert combine("ab", "c") != combine("a", "bc")
    assert combine("a", b"bc") == combine("a", "bc")


def test_types_and_values_count() -> None:
    values = [["1"], [1], [1.5], [True], [None], [b"1"], [np.array([1])], [["1"]], [float("nan")]]
    assert len({of(value) for value in values}) == len(values)


def test_numpy_scalars_are_their_values() -> None:
    assert of([np.int64(3), np.float64(0.5)]) == of([3, 0.5])


def test_lone_surrogates_are_hashed() -> None:
    assert of(["\ud800"]) != of(["\ud801"])


def test_column_names_count() -> None:
    assert hash_chunks(["x"], [{"x": [1]}]) != hash_chunks(["y"], [{"y": [1]}])
