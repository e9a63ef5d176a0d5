"""From label columns to class numbers, with errors that name the row."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_finetune.suggest import did_you_mean


def class_numbers(
    values: Sequence[Any], labels: Sequence[str], *, column: str, first_row: int = 0
) -> np.ndarray:
    """Turn a column of label names or class numbers into class numbers.

    Args:
        values: Label names, integers, or integers as strings (as a CSV file has them). Integers
            are class numbers, unless the names are numbers themselves: then they are names.
        labels: The name of each class.
        column: The column's name, for errors.
        first_row: Row number of the first value, for errors.

    Returns:
        (rows,) int64.

    Raises:
        ValueError: A value is no class: out of range, unknown, missing, or a float; or there are
            names as well as numbers.

    Example:
        >>> class_numbers(["spam", "ham"], ["ham", "spam"], column="label").tolist()
        [1, 0]
        >>> class_numbers([1, "0"], ["ham", "spam"], column="label").tolist()
        [1, 0]
    """
    return _numbers(values, range(first_row, first_row + len(values)), labels, column)


def _numbers(
    values: Sequence[Any], rows: Sequence[int], labels: Sequence[str], column: str
) -> np.ndarray:
    index = {name: number for number, name in enumerate(labels)}
    # Stars from "1" to "5" are names, however they are stored: a 1 is not the second class.
    numeric = any(_is_number(name) for name in labels)
    found = np.empty(len(values), np.int64)
    kinds = []
    for place, (row, value) in enumerate(zip(rows, values, strict=True)):
        number: Any = value
        kinds.append("a number")
        if isinstance(value, str) or (numeric and isinstance(value, int | np.integer)):
            number = index.get(str(value))
            if number is not None:
                kinds[-1] = "a name"
            elif not numeric and _is_number(str(value)):
                number = int(value)
        if not isinstance(number, int | np.integer) or not 0 <= number < len(labels):
            raise ValueError(_wrong(value, labels, column, row))
        if kinds[-1] != kinds[0]:
            raise ValueError(
                f"Column {column!r} has the label {value!r} in row {row}, {kinds[-1]}, but "
                f"{values[0]!r} in row {rows[0]} is {kinds[0]}. Write them all as names, or all as "
                f"numbers. {_known(labels)}"
            )
        found[place] = number
    return found


def _is_number(text: str) -> bool:
    return text.strip().removeprefix("-").isdigit()


def are_vectors(rows: Iterable[Any], labels: Sequence[str], *, column: str) -> bool:
    """Tell a column of vectors, a 0 or 1 for each label, from one of lists of labels.

    The first row decides that can be only one of them. With one label or two, ``[0]`` and
    ``[0, 1]`` are lists of class numbers as well as vectors.

    Args:
        rows: The column; no more of it is read than is needed.
        labels: The name of each class.
        column: The column's name, for errors.

    Raises:
        ValueError: No row decides.

    Example:
        >>> are_vectors([[0, 1], [1, 1]], ["a", "b"], column="tags")
        True
        >>> are_vectors([[0, 1], [1]], ["a", "b"], column="tags")
        False
    """
    row = None
    for row in rows:
        if not _is_vector(row, labels):
            return False
        if _is_no_list(row) or not all(_is_class(value, labels) for value in row):
            return True
    if row is None:
        return False
    raise ValueError(
        f"Column {column!r} has rows such as {_shown(row)}, which may be class numbers, or a 0 or "
        f"1 for each label: every row can be read as both. Give lists of names, or of True and "
        f"False. {_known(labels)}"
    )


def multi_hot(
    values: Sequence[Any],
    labels: Sequence[str],
    *,
    column: str,
    first_row: int = 0,
    vectors: bool = False,
) -> np.ndarray:
    """Turn a column of lists of label names or class numbers into 0 and 1 for each class.

    Args:
        values: A list (possibly empty) of label names or integers for each row.
        labels: The name of each class.
        column: The column's name, for errors.
        first_row: Row number of the first value, for errors.
        vectors: Whether each row has a 0 or 1 for each label instead; see `are_vectors`.

    Returns:
        (rows, classes) float32.

    Raises:
        ValueError: A value is no list, or holds what is no class; or there are names as well as
            numbers, or vectors as well as lists.

    Example:
        >>> multi_hot([["a", "c"], []], ["a", "b", "c"], column="labels").tolist()
        [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
        >>> multi_hot([[1, 0, 1]], ["a", "b", "c"], column="labels", vectors=True).tolist()
        [[1.0, 0.0, 1.0]]
    """
    rows: list[int] = []
    listed: list[Any] = []
    for row, value in enumerate(values):
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise ValueError(
                f"multi_label=True expects a list of labels in each row. Column {column!r} has "
                f"{value!r} in row {first_row + row}. Use multi_label=False for one label a row."
            )
        if vectors and not _is_vector(value, labels):
            raise ValueError(_mixed(value, labels, column, first_row + row))
        listed += list(value)
        rows += [row] * (len(listed) - len(rows))
    found = np.zeros((len(values), len(labels)), np.float32)
    if vectors:
        return np.array(listed, np.float32).reshape(found.shape)
    found[rows, _numbers(listed, [first_row + row for row in rows], labels, column)] = 1
    for row, value in enumerate(values):
        if _is_no_list(value):
            raise ValueError(_mixed(value, labels, column, first_row + row))
    return found


def _is_vector(row: Any, labels: Sequence[str]) -> bool:
    if isinstance(row, str) or not hasattr(row, "__len__") or len(row) != len(labels):
        return False
    kinds = (int, float, np.integer, np.floating, np.bool_)
    return all(isinstance(value, kinds) and value in (0, 1) for value in row)


def _is_no_list(row: Any) -> bool:
    """Whether a row is no list of class numbers: it has bools, or a number twice."""
    numbers = [value for value in row if not isinstance(value, str)]
    return len(set(numbers)) < len(numbers) or any(
        isinstance(value, bool | np.bool_) for value in numbers
    )


def _is_class(value: Any, labels: Sequence[str]) -> bool:
    return isinstance(value, int | np.integer) and int(value) < len(labels)


def _mixed(row: Any, labels: Sequence[str], column: str, number: int) -> str:
    return (
        f"Column {column!r} has {_shown(row)} in row {number}, which is neither a list of labels, "
        f"each once, nor a vector as other rows are. In every row give a list of labels, or in "
        f"every row {len(labels)} entries, a 0 or 1 for each label. {_known(labels)}"
    )


def _shown(row: Any) -> str:
    return repr(row.tolist() if isinstance(row, np.ndarray) else list(row))


def _wrong(value: Any, labels: Sequence[str], column: str, row: int) -> str:
    start, known = f"Column {column!r} has the label {value!r} in row {row}", _known(labels)
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return f"{start}: it is missing. Leave such rows out. {known}"
    if isinstance(value, float | np.floating):
        return f"{start}: a float, but a label is a name or a whole number. {known}"
    if isinstance(value, list | tuple | np.ndarray):
        return f"{start}: several labels need TextClassification(..., multi_label=True). {known}"
    hint = did_you_mean(value, labels) if isinstance(value, str) else ""
    return f"{start}, which is not one of the task's.{hint} {known}"


def _known(labels: Sequence[str]) -> str:
    shown = ", ".join(f"{number}={name!r}" for number, name in enumerate(labels[:12]))
    return f"The task's labels are {shown}{', ...' if len(labels) > 12 else ''}."
