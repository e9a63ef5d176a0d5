"""Rows that are dicts or tuples, gathered into chunks of columns."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

CHUNK_ROWS = 1_000


def all_keys(rows: Iterable[tuple[int, Any]], place: str) -> tuple[list[str], int]:
    """Go through dict rows; return the keys of all, as they appear, and the number of rows.

    Args:
        rows: Pairs of a number (of the row, of the line) and the row.
        place: What to put before the number in an error, for example ``"reviews.jsonl:"``.

    Raises:
        ValueError: A row is no mapping.
    """
    keys: dict[str, None] = {}
    count = 0
    for number, row in rows:
        if not isinstance(row, Mapping):
            raise ValueError(
                f"{place}{number}: expected a mapping (JSON object) of column names to values, "
                f"got {type(row).__name__} {row!r:.60}"
            )
        if row.keys() != keys.keys():
            keys.update(dict.fromkeys(row))
        count += 1
    return list(keys), count


def dict_chunks(
    rows: Iterable[tuple[int, Any]], columns: Sequence[str], place: str
) -> Iterator[dict[str, list[Any]]]:
    """Gather dict rows that must all have the same keys.

    Args:
        rows: As for `all_keys`.
        columns: The keys that every row must have, and no others.
        place: As for `all_keys`.

    Raises:
        ValueError: A row is no mapping, or its keys are others.
    """
    expected = set(columns)

    def values() -> Iterator[tuple[Any, ...]]:
        for number, row in rows:
            if not isinstance(row, Mapping) or row.keys() != expected:
                all_keys([(number, row)], place)
                raise ValueError(f"{place}{number}: {_difference(row, columns)}")
            yield tuple(row[name] for name in columns)

    return tuple_chunks(values(), columns)


def tuple_chunks(
    rows: Iterable[Sequence[Any]], columns: Sequence[str]
) -> Iterator[dict[str, list[Any]]]:
    """Gather rows that are tuples in the order of `columns`."""
    remaining = iter(rows)
    while batch := list(itertools.islice(remaining, CHUNK_ROWS)):
        by_column = zip(*batch, strict=True)
        yield {name: list(values) for name, values in zip(columns, by_column, strict=True)}


def _difference(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    missing = [name for name in columns if name not in row]
    extra = [str(name) for name in row if name not in columns]
    said = f"has no {', '.join(missing)}" if missing else f"also has {', '.join(extra)}"
    return (
        f"this row {said}; the first row's columns are {', '.join(columns)}. "
        "Every row needs the same keys; give a missing value as null/None."
    )
