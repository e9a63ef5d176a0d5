"""Train, validation and test sets out of one set of rows."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_finetune.data.examples import Examples

_TRAIN, _VALIDATION, _TEST = 0, 1, 2


class Splits(NamedTuple):
    """Three sets without a common row; one that was asked for with size 0 is empty."""

    train: Examples
    validation: Examples
    test: Examples


def split(
    examples: Examples,
    validation: float | int = 0.1,
    test: float | int = 0.1,
    *,
    seed: int = 0,
    by: str | None = None,
    stratify: str | None = None,
) -> Splits:
    """Put every row into exactly one of train, validation and test, at random.

    The same rows, sizes and seed give the same sets on every machine.

    Args:
        examples: The rows.
        validation: Size of the validation set: a fraction of all rows, or a number of rows.
        test: Size of the test set, likewise. What is left is the training set.
        seed: Seed of the permutation.
        by: A column whose equal values must stay together, for example the author of a text, or
            ``"text"`` itself where the same text occurs twice. The sizes are then met as nearly as
            whole groups allow.
        stratify: A column, usually the label, whose proportions each set keeps, to a row. A value
            that is too rare for that stays in train. Of lists of labels each whole list is a value.

    Returns:
        The three sets; in each the rows keep their order.

    Raises:
        ValueError: There are too few rows (or groups) for the sizes, `by` and `stratify` are both
            given, or a column is unknown or holds dicts.

    Example:
        >>> rows = Examples.from_columns({"text": list("abcdefghij"), "label": [0, 1] * 5})
        >>> train, validation, test = split(rows, validation=0.2, test=2, stratify="label")
        >>> len(train), len(validation), len(test), sorted(test.column("label"))
        (6, 2, 2, [0, 1])
    """
    if by is not None and stratify is not None:
        raise ValueError("split takes either by= or stratify=, not both")
    num_rows = len(examples)
    sizes = {
        _VALIDATION: _num_rows("validation", validation, num_rows),
        _TEST: _num_rows("test", test, num_rows),
    }
    if num_rows - sum(sizes.values()) < 1:
        raise ValueError(
            f"{num_rows} rows are too few for validation={validation} and test={test}: at least "
            "one row must be left for training"
        )
    generator = np.random.Generator(np.random.PCG64(seed))
    if by is not None:
        part = _grouped(_codes(examples, by), sizes, generator)
    elif stratify is not None:
        part = _stratified(_codes(examples, stratify), sizes, generator)
    else:
        part = np.full(num_rows, _TRAIN, np.uint8)
        order = generator.permutation(num_rows)
        part[order[: sizes[_TEST]]] = _TEST
        part[order[sizes[_TEST] : sizes[_TEST] + sizes[_VALIDATION]]] = _VALIDATION
    for name, number in (("validation", _VALIDATION), ("test", _TEST)):
        if sizes[number] and not np.any(part == number):
            raise ValueError(
                f"No row is left for the {name} set: column {by or stratify!r} has too few "
                f"{'groups' if by else 'rows a value'}. Make the set larger, or split without it."
            )
    return Splits(*(examples.select(np.flatnonzero(part == number)) for number in range(3)))


def _num_rows(name: str, size: Any, num_rows: int) -> int:
    allowed = isinstance(size, (int, float, np.integer, np.floating)) and size is not True
    if not allowed or not size >= 0:  # NaN is not
        raise ValueError(f"{name}={size!r}: expected a fraction below 1 or a number of rows")
    if isinstance(size, (int, np.integer)):
        return int(size)
    if size >= 1:
        raise ValueError(f"{name}={size}: a fraction is below 1; for rows pass the int {size:.0f}")
    return max(1, round(float(size) * num_rows)) if size else 0


def _codes(examples: Examples, column: str) -> npt.NDArray[np.int64]:
    """Number the distinct values of a column in order of appearance."""
    known: dict[Any, int] = {}
    codes = []
    for row, value in enumerate(examples.column(column)):
        try:
            codes.append(known.setdefault(_hashable(value), len(known)))
        except TypeError:
            raise ValueError(
                f"Row {row}, column {column!r}: {value!r:.60} is a {type(value).__name__}; "
                "expected strings, numbers, or lists of them. Make a column of such values."
            ) from None
    return np.array(codes, np.int64)


def _hashable(value: Any) -> Any:
    value = value.tolist() if isinstance(value, np.ndarray) else value
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _grouped(
    codes: npt.NDArray[np.int64], sizes: dict[int, int], generator: np.random.Generator
) -> npt.NDArray[np.uint8]:
    rows_of = np.bincount(codes)
    part_of = np.full(len(rows_of), _TRAIN, np.uint8)
    left = {number: size for number, size in sizes.items() if size}
    # A group goes to the first set that has room for all of it, so that no set grows too large.
    for group in generator.permutation(len(rows_of)):
        for number, room in left.items():
            if rows_of[group] <= room:
                part_of[group], left[number] = number, room - int(rows_of[group])
                break
    for number in left:
        in_train = np.flatnonzero(part_of == _TRAIN)
        if not np.any(part_of == number) and len(in_train) > 1:
            part_of[in_train[np.argmin(rows_of[in_train])]] = number
    return part_of[codes]


def _stratified(
    codes: npt.NDArray[np.int64], sizes: dict[int, int], generator: np.random.Generator
) -> npt.NDArray[np.uint8]:
    part = np.full(len(codes), _TRAIN, np.uint8)
    order = generator.permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]  # by value, at random within a value
    for number, size in sizes.items():
        # Evenly spaced picks: from m neighbours of n take m * size / n, rounded up or down.
        left = order[part[order] == _TRAIN]
        steps = np.arange(len(left) + 1) * size // len(left)
        part[left[np.diff(steps) > 0]] = number
    in_train = np.bincount(codes[part == _TRAIN], minlength=int(codes.max()) + 1)
    part[in_train[codes] == 0] = _TRAIN
    return part
