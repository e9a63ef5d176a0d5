"""A named table of rows that is read in chunks."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_finetune.data.fingerprint import combine, hash_chunks
from keras_finetune.data.int_checks import checked_int
from keras_finetune.data.label_names import distinct_labels
from keras_finetune.suggest import did_you_mean

Chunk = dict[str, list[Any]]


class Examples:
    """Rows of named columns that can be read any number of times, a chunk at a time.

    The rows may be in memory, in files or in a TFDS data set; they are never held all at once
    unless they already were. Make one with `read`, `from_columns` or `from_chunks`.

    Attributes:
        columns: The names of the columns.
        names: For columns of class numbers, the name of each class, where the source knows them.

    Example:
        >>> examples = Examples.from_columns({"text": ["good", "bad", "fine"], "label": [1, 0, 1]})
        >>> len(examples), examples.columns
        (3, ('text', 'label'))
        >>> next(iter(examples))
        {'text': 'good', 'label': 1}
        >>> examples.rename({"text": "review"}).select([2]).column("review")
        ['fine']
    """

    def __init__(
        self,
        factory: Callable[[], Iterator[Chunk]],
        columns: Sequence[str],
        *,
        num_rows: int | None = None,
        names: Mapping[str, Sequence[str]] | None = None,
        fingerprint: str | Callable[[], str] | None = None,
    ):
        self._factory = factory
        self.columns = tuple(columns)
        self.names = {column: list(values) for column, values in (names or {}).items()}
        self._num_rows = num_rows
        self._fingerprint = fingerprint

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, Any], *, names: Mapping[str, Sequence[str]] | None = None
    ) -> "Examples":
        """Wrap columns that are in memory.

        Args:
            columns: Column name -> list, tuple, NumPy array or pandas Series, all equally long.
                Arrays of more than one axis have a row per entry of their first.
            names: Column name -> class names, for columns of class numbers.

        Raises:
            ValueError: The columns differ in length, or there is none.
        """
        if not columns:
            raise ValueError("There is no column: pass for example {'text': [...], 'label': [...]}")
        held = {str(name): _sliceable(name, values) for name, values in columns.items()}
        lengths = {name: len(values) for name, values in held.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"The columns differ in length: {lengths}")
        num_rows = next(iter(lengths.values()))

        def factory() -> Iterator[Chunk]:
            for start in range(0, num_rows, 10_000):
                yield {name: _as_list(v[start : start + 10_000]) for name, v in held.items()}

        return cls(factory, tuple(held), num_rows=num_rows, names=names)

    @classmethod
    def from_chunks(
        cls,
        factory: Callable[[], Iterator[Chunk]],
        columns: Sequence[str],
        fingerprint: str | None = None,
    ) -> "Examples":
        """Wrap a stream that can be started again.

        Args:
            factory: Called once a pass; returns an iterator of chunks (column name -> list).
                Every pass must give the same rows in the same order.
            columns: The names of the columns.
            fingerprint: What identifies the content. Without it the content is hashed, one pass,
                when it is first asked for.
        """
        return cls(factory, columns, fingerprint=fingerprint)

    def __len__(self) -> int:
        """Return the number of rows, counted once if the source does not know it."""
        if self._num_rows is None:
            self._num_rows = sum(_num_rows(chunk) for chunk in self._factory())
        return self._num_rows

    def __bool__(self) -> bool:
        return True  # else `if examples:` would read the whole stream to count it

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for chunk in self._factory():
            for values in zip(*(chunk[name] for name in self.columns), strict=True):
                yield dict(zip(self.columns, values, strict=True))

    def __repr__(self) -> str:
        rows = "?" if self._num_rows is None else f"{self._num_rows:,}"
        return f"Examples({rows} rows: {', '.join(self.columns)})"

    def chunks(self, size: int = 10_000) -> Iterator[Chunk]:
        """Yield the rows as dicts of lists with `size` rows each, the last one with the rest."""
        if size < 1:
            raise ValueError(f"chunks: size is {size}, it must be at least 1")
        waiting: Chunk = {name: [] for name in self.columns}
        for chunk in self._factory():
            for name in self.columns:
                waiting[name] += chunk[name]
            start, rows = 0, _num_rows(waiting)
            while rows - start >= size:
                yield {name: waiting[name][start : start + size] for name in self.columns}
                start += size
            if start:
                waiting = {name: waiting[name][start:] for name in self.columns}
        if _num_rows(waiting):
            yield waiting

    def column(self, name: str) -> list[Any]:
        """Return one column, whole.

        Raises:
            ValueError: There is no such column; the message names those there are.
        """
        self.check_columns([name])
        return list(itertools.chain.from_iterable(chunk[name] for chunk in self._factory()))

    def check_columns(self, names: Iterable[str]) -> None:
        """Raise a `ValueError` that names the columns there are if one of `names` is missing."""
        for name in names:
            if name not in self.columns:
                raise ValueError(
                    f'There is no column "{name}". Columns: {", ".join(self.columns)}.'
                    + did_you_mean(str(name), self.columns)
                )

    def select(self, rows: Any) -> "Examples":
        """Keep some rows, in the order they have here.

        They are picked while the source streams, so that a large selection is cheap, too.

        Args:
            rows: Row numbers, each once, in any order; or one bool a row.

        Raises:
            ValueError: Negative, repeated or non-integer row numbers; at the latest when they are
                read, row numbers past the end.
        """
        wanted = np.asarray(rows)
        if wanted.dtype == bool:
            if len(wanted) != len(self):
                raise ValueError(f"select: {len(wanted)} bools for {len(self)} rows")
            wanted = np.flatnonzero(wanted)
        if wanted.size and not np.issubdtype(wanted.dtype, np.integer):
            raise ValueError(f"select takes row numbers (integers), it got {wanted.dtype}")
        wanted = np.sort(wanted.astype(np.int64))
        if wanted.size and wanted[0] < 0:
            raise ValueError(f"select: row {wanted[0]} is negative; rows count from 0")
        if np.any(np.diff(wanted) == 0):
            raise ValueError("select: a row number is given twice")
        if self._num_rows is not None and wanted.size and wanted[-1] >= self._num_rows:
            raise ValueError(f"select: row {wanted[-1]} of a set of {self._num_rows} rows")

        def factory() -> Iterator[Chunk]:
            first, done = 0, 0  # number of the chunk's first row; how many rows were picked
            for chunk in self._factory() if wanted.size else ():
                after = first + _num_rows(chunk)
                stop = int(np.searchsorted(wanted, after))
                if stop > done:
                    picked = (wanted[done:stop] - first).tolist()
                    yield {name: [values[i] for i in picked] for name, values in chunk.items()}
                first, done = after, stop
                if done == len(wanted):
                    return
            if done < len(wanted):
                raise ValueError(f"select: row {wanted[-1]} of a set of {first} rows")

        return Examples(
            factory,
            self.columns,
            num_rows=len(wanted),
            names=self.names,
            fingerprint=lambda: combine(self.fingerprint, "rows", wanted.tobytes()),
        )

    def head(self, n: int) -> "Examples":
        """Keep the first `n` rows, or all of them if there are fewer."""
        checked_int("n", n, 0)

        def factory() -> Iterator[Chunk]:
            left = n
            for chunk in self._factory() if n > 0 else ():
                yield {name: values[:left] for name, values in chunk.items()}
                left -= _num_rows(chunk)
                if left <= 0:
                    return

        known = None if self._num_rows is None else min(n, self._num_rows)
        return Examples(
            factory,
            self.columns,
            num_rows=known,
            names=self.names,
            fingerprint=lambda: combine(self.fingerprint, "head", str(n)),
        )

    def rename(self, names: Mapping[str, str]) -> "Examples":
        """Rename columns, ``{"old": "new"}``; the others keep their names."""
        return self.pick({column: names.get(column, column) for column in self.columns}, names)

    def pick(
        self, columns: Sequence[str] | Mapping[str, str], check: Iterable[str] = ()
    ) -> "Examples":
        """Keep some columns, in the order given, renamed where a mapping ``{"old": "new"}`` is."""
        if isinstance(columns, str):
            columns = [columns]
        new = dict(columns) if isinstance(columns, Mapping) else {name: name for name in columns}
        self.check_columns([*check, *new])
        if len(set(new.values())) < len(new) or not new:
            raise ValueError(f"Columns need names that differ; got {list(new.values())}")

        def factory() -> Iterator[Chunk]:
            for chunk in self._factory():
                yield {name: chunk[old] for old, name in new.items()}

        return Examples(
            factory,
            tuple(new.values()),
            num_rows=self._num_rows,
            names={new[old]: values for old, values in self.names.items() if old in new},
            fingerprint=lambda: combine(self.fingerprint, "columns", json.dumps(new)),
        )

    @property
    def fingerprint(self) -> str:
        """What identifies the content: equal contents of one source have equal fingerprints."""
        if self._fingerprint is None:
            self._fingerprint = hash_chunks(self.columns, self.chunks())
        elif callable(self._fingerprint):
            self._fingerprint = self._fingerprint()
        return self._fingerprint

    def label_names(self, column: str = "label") -> list[str]:
        """Return the names of the classes of a column.

        They are the source's own names where it has them (TFDS), else the distinct values, sorted,
        as strings. Lists of labels (multi-label) count label by label.

        Raises:
            ValueError: A label is missing (None, NaN), a float or a bool in a list; a list has an
                integer twice, as vectors of 0 and 1 have; or the labels are strings and integers.
        """
        self.check_columns([column])
        if column in self.names:
            return list(self.names[column])
        return distinct_labels(self.column(column), column)


def _sliceable(name: Any, values: Any) -> Any:
    if hasattr(values, "to_numpy"):  # a pandas Series slices by index, not by position
        values = values.to_numpy()
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
        raise ValueError(
            f'Column "{name}" is a {type(values).__name__}; expected a list or an array of values'
        )
    if isinstance(values, np.ndarray) and values.ndim == 0:
        raise ValueError(f'Column "{name}" is an array without axes; expected one entry a row')
    return values if isinstance(values, (list, tuple, np.ndarray)) else list(values)


def _as_list(values: Any) -> list[Any]:
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return values.tolist()
    return list(values)


def _num_rows(chunk: Chunk) -> int:
    return len(next(iter(chunk.values())))
