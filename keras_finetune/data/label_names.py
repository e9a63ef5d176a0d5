"""The classes that a column of labels names."""

from collections.abc import Iterable
from typing import Any

import numpy as np


def distinct_labels(values: Iterable[Any], column: str) -> list[str]:
    """Return the distinct labels of a column, sorted, as strings.

    Args:
        values: Labels, or lists of labels, which count label by label.
        column: The column's name, for errors.

    Raises:
        ValueError: A label is missing (None, NaN), a float or a bool in a list; a list has an
            integer twice, as vectors of 0 and 1 have; or the labels are strings and integers.

    Example:
        >>> distinct_labels([["b", "a"], [], ["a"]], "tags")
        ['a', 'b']
    """
    distinct: set[Any] = set()
    first: tuple[int, Any] | None = None
    for row, value in enumerate(values):
        several = isinstance(value, (list, tuple, np.ndarray))
        listed = value.tolist() if isinstance(value, np.ndarray) else value
        labels = list(listed) if several else [value]
        if several and _is_vector(labels):
            raise ValueError(
                f'Row {row}, column "{column}": {labels} is a vector of 0 and 1 and holds no '
                "names. Give the task the names itself, in the order of the entries."
            )
        for label in labels:
            if not isinstance(label, (str, int, np.integer)):
                raise ValueError(
                    f'Row {row}, column "{column}": the label is {label!r}; classes are '
                    "strings or integers. Drop rows without a label; convert floats with int()."
                )
            first = first or (row, label)
            if isinstance(label, str) != isinstance(first[1], str):
                raise ValueError(
                    f'Row {row}, column "{column}": the label is {label!r}, but row {first[0]} '
                    f"has {first[1]!r}; classes are all strings or all integers. Correct the "
                    "row that is wrong, or convert the integers with str()."
                )
        distinct.update(labels)
    return [str(label) for label in sorted(distinct)]


def _is_vector(labels: list[Any]) -> bool:
    if not all(isinstance(label, (int, np.integer, np.bool_)) for label in labels):
        return False
    has_bools = any(isinstance(label, (bool, np.bool_)) for label in labels)
    return has_bools or len(set(labels)) < len(labels)
