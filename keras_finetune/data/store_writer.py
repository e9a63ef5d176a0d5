"""Writing a store: streamed, checked, and visible only when it is complete."""

import contextlib
import errno
import json
import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_finetune.data.process_mark import process_mark

FORMAT = 1
MANIFEST = "manifest.json"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Ragged(NamedTuple):
    """Rows of different lengths, one after the other.

    Attributes:
        values: (tokens, ...) the rows' entries.
        offsets: (rows + 1,) int64, where each row begins; the last is `len(values)`.
    """

    values: np.ndarray
    offsets: np.ndarray


class StoreWriteError(OSError):
    """A store could not be written; the message says where, why, and what to do."""


class StoreWriter:
    """Write columns to a folder that appears under its name when all is written.

    Use it as a context manager. If anything fails within, Ctrl-C and a full disk included, what was
    written is removed and nothing appears.

    Args:
        path: The folder to be. A store that is there stays until the new one is complete.
        key: Names what goes in; `build_store` opens the folder only under the same key.

    Raises:
        ValueError: On entering, `path` holds something other than a store.
        StoreWriteError: On entering, the folder cannot be made.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with StoreWriter(folder + "/store", key="1") as writer:
        ...     writer.append({"label": np.array([0, 1])})
        >>> sorted(os.listdir(folder + "/store"))
        ['label.bin', 'manifest.json']
    """

    def __init__(self, path: "str | os.PathLike[str]", key: str) -> None:
        self._path = Path(path)
        self._key = key
        self._columns: dict[str, _Column] = {}
        self._num_rows = 0
        mark = process_mark()  # What a killed process left can be told by it.
        self._unfinished = self._path.with_name(f".{self._path.name}.{mark}.unfinished")

    def __enter__(self) -> "StoreWriter":
        _refuse_other_files(self._path)
        self._before = _identity(self._path)
        with _failures_named(self._path):
            self._unfinished.mkdir(parents=True)
        return self

    def append(self, chunk: Mapping[str, "np.ndarray | Ragged"]) -> None:
        """Write some rows.

        Args:
            chunk: Column name -> (rows, ...) array, or `Ragged`. Every chunk has the same columns
                with the same dtypes.

        Raises:
            ValueError: The columns differ in rows, or from the chunk before.
            StoreWriteError: The disk or quota is full, or something else keeps from writing; the
                message says where, and how to choose another place.
        """
        if self._columns and set(chunk) != set(self._columns):
            raise ValueError(
                f"Every chunk must have the columns {sorted(self._columns)}. "
                f"Received: {sorted(chunk)}"
            )
        rows = {name: _rows_in(values) for name, values in chunk.items()}
        if len(set(rows.values())) != 1:
            raise ValueError(f"The columns of a chunk must have as many rows. Received: {rows}")
        with _failures_named(self._path):
            for name, values in chunk.items():
                if name not in self._columns:
                    self._columns[name] = _Column(self._unfinished, name, values)
                self._columns[name].append(values)
        self._num_rows += next(iter(rows.values()))

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        try:
            with _failures_named(self._path):
                for column in self._columns.values():
                    column.close()
                if kind is None:
                    self._finish()
        finally:
            shutil.rmtree(self._unfinished, ignore_errors=True)

    def _finish(self) -> None:
        manifest = {
            "format": FORMAT,
            "key": self._key,
            "rows": self._num_rows,
            "columns": {name: column.described() for name, column in self._columns.items()},
        }
        (self._unfinished / MANIFEST).write_text(json.dumps(manifest, indent=2))
        aside = self._unfinished.with_suffix(".replaced")
        while True:
            try:
                self._unfinished.rename(self._path)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            # A folder cannot be renamed onto another, so that the old one steps aside first.
            found = _identity(self._path)
            if found not in (None, self._before) and _key_of(self._path) == self._key:
                return  # Another process wrote the same in the meantime, and may be reading it.
            with contextlib.suppress(FileNotFoundError):
                self._path.rename(aside)
                shutil.rmtree(aside, ignore_errors=True)


class _Column:
    """One column's file, and with ragged rows one of their offsets."""

    def __init__(self, folder: Path, name: str, values: "np.ndarray | Ragged") -> None:
        self.ragged = isinstance(values, Ragged)
        first = values.values if isinstance(values, Ragged) else values
        self.dtype = np.asarray(first).dtype
        self.shape = np.asarray(first).shape[1:]
        if self.dtype.kind not in "biuf" and self.dtype.name != "bfloat16":
            raise ValueError(f"Column {name!r} must be numbers. Received dtype {self.dtype}.")
        self._name = name
        self._values = _CountedFile(folder / f"{name}.bin")
        self._offsets = _CountedFile(folder / f"{name}.offsets.bin") if self.ragged else None
        self._end = 0

    def append(self, values: "np.ndarray | Ragged") -> None:
        if isinstance(values, Ragged) != self.ragged:
            raise ValueError(f"Column {self._name!r} must be ragged in every chunk or in none.")
        array = np.asarray(values.values if isinstance(values, Ragged) else values)
        if array.dtype != self.dtype or array.shape[1:] != self.shape:
            raise ValueError(
                f"Column {self._name!r} has entries of {self.dtype}{list(self.shape)}. "
                f"Received: {array.dtype}{list(array.shape[1:])}"
            )
        if isinstance(values, Ragged):
            _check_offsets(self._name, np.asarray(values.offsets), len(array))
        self._values.write(array)
        if isinstance(values, Ragged) and self._offsets:
            if self._offsets.size == 0:
                self._offsets.write(np.zeros(1, np.int64))
            self._offsets.write(np.asarray(values.offsets[1:], np.int64) + self._end)
            self._end += len(array)

    def close(self) -> None:
        self._values.close()
        if self._offsets:
            self._offsets.close()

    def described(self) -> dict[str, Any]:
        files = [file.described() for file in (self._values, self._offsets) if file]
        return {
            # NumPy knows bfloat16 by its name only.
            "dtype": "bfloat16" if self.dtype.name == "bfloat16" else self.dtype.str,
            "shape": list(self.shape),
            "ragged": self.ragged,
            "files": files,
        }


class _CountedFile:
    """A file with its size and checksum, kept while it is written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Not buffered: chunks are large, and a full disk must be told by write, not by close.
        self._file = path.open("wb", buffering=0)
        self.size = 0
        self._crc = 0

    def write(self, array: np.ndarray) -> None:
        # In one dimension, for what the system writes at once (2 GiB at most) is told in bytes.
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        rest = data
        while rest:
            rest = rest[self._file.write(rest) :]
        self.size += data.nbytes
        self._crc = zlib.crc32(data, self._crc)

    def close(self) -> None:
        self._file.close()

    def described(self) -> dict[str, Any]:
        return {"name": self._path.name, "bytes": self.size, "crc32": self._crc}


class _failures_named:  # noqa: N801  (read as a statement: with _failures_named(path))
    """Say what could not be written where, and what to do."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if not isinstance(error, OSError):
            return
        name, folder = self._path.name, self._path.parent
        if error.errno in _FULL:
            place = next(p for p in self._path.parents if p.exists())
            free = shutil.disk_usage(place).free / 2**20
            raise StoreWriteError(
                error.errno,
                f"The disk, or your quota on it, is full: {free:,.0f} MiB are free in {place}, "
                f"where the store {name!r} was being written. What was written is "
                "removed. Make room, or choose another place: set the environment variable "
                "KERAS_FINETUNE_CACHE to a folder on a larger disk.",
            ) from error
        raise StoreWriteError(
            error.errno,
            f"The store {name!r} could not be written in {folder}, which must be a folder that can "
            f"be written to ({error.strerror or error}). What was written is removed. Choose "
            "another place: for caches set the environment variable KERAS_FINETUNE_CACHE to such a "
            "folder.",
        ) from error


def _refuse_other_files(path: Path) -> None:
    """What is replaced is removed, so that nothing but a store may be."""
    if not path.exists():
        return
    names = sorted(each.name for each in path.iterdir()) if path.is_dir() else [path.name]
    other = [name for name in names if name != MANIFEST and not name.endswith(".bin")]
    if other:
        raise ValueError(
            f"{path} is no store, for it holds {other[0]!r}; it is left as it is. Give the store a "
            "folder of its own."
        )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = (path / MANIFEST).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_mtime_ns


def _key_of(path: Path) -> Any:
    try:
        return json.loads((path / MANIFEST).read_text())["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_offsets(name: str, offsets: np.ndarray, total: int) -> None:
    if offsets[0] != 0 or offsets[-1] != total or (np.diff(offsets) < 0).any():
        raise ValueError(
            f"The offsets of column {name!r} must ascend from 0 to {total}, the number of values. "
            f"Received: {offsets[0]} to {offsets[-1]}"
        )


def _rows_in(values: "np.ndarray | Ragged") -> int:
    return len(values.offsets) - 1 if isinstance(values, Ragged) else len(values)
