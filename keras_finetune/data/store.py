"""Encoded examples on disk: flat arrays and row offsets, memory-mapped."""

import glob
import mmap
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_finetune.data.process_mark import is_of_dead_process
from keras_finetune.data.progress import track
from keras_finetune.data.store_manifest import check_file, damaged, dtype_of, read_manifest
from keras_finetune.data.store_writer import Ragged, StoreWriter
from keras_finetune.suggest import did_you_mean

# Mapped pages count as this process's memory until they are given back.
_BYTES_UNTIL_RELEASE = 64 * 2**20
# Linux maps what is around the page that is read, too: up to as much, where files are cached so.
_BYTES_PER_READ = 2 * 2**20


class Store:
    """Columns of a folder that `StoreWriter` wrote; rows are read from disk when asked for.

    Args:
        path: The folder.
        verify: Whether to read every file once and compare it with its checksum, at some
            gigabytes a second; sizes are always compared.

    Attributes:
        path: The folder.
        key: What went into it.
        num_rows: Number of rows.
        columns: Names of the columns.

    Raises:
        ValueError: The folder is no store, or is damaged.
    """

    def __init__(self, path: "str | os.PathLike[str]", *, verify: bool = True) -> None:
        self.path = Path(path)
        manifest = read_manifest(self.path)
        self.key: str = manifest["key"]
        self.num_rows: int = manifest["rows"]
        self._described: dict[str, Any] = manifest["columns"]
        self.columns = tuple(self._described)
        for column in self._described.values():
            for file in column["files"]:
                check_file(self.path, file, verify)
        self._maps: dict[str, np.ndarray] = {}
        self._lengths: dict[str, np.ndarray] = {}
        self._touched: dict[str, int] = {}
        # All at once, so that a store that takes this one's place later is not mixed with it.
        for name in self.columns:
            if not self._has_all_rows(name):
                raise damaged(self.path)

    def __len__(self) -> int:
        return self.num_rows

    def is_ragged(self, column: str) -> bool:
        """Tell whether the rows of a column have different lengths."""
        return bool(self._column(column)["ragged"])

    def lengths(self, column: str) -> np.ndarray:
        """Return (rows,) int32, the length of each row of a ragged column."""
        if not self.is_ragged(column):
            shape = self._column(column)["shape"]
            return np.full(self.num_rows, shape[0] if shape else 1, np.int32)
        if column not in self._lengths:
            self._lengths[column] = np.diff(self._offsets(column)).astype(np.int32)
            self._release()
        return self._lengths[column]

    def column(self, name: str) -> np.ndarray:
        """Return a whole column as a memory-mapped array; a ragged one as its flat entries."""
        described = self._column(name)
        return self._map(f"{name}.bin", dtype_of(described["dtype"]), described["shape"])

    def row(self, number: int) -> dict[str, np.ndarray]:
        """Return one row."""
        rows = np.array([number])
        return {name: self.gather(name, rows)[0] for name in self.columns}

    def gather(
        self, column: str, rows: np.ndarray, width: int | None = None, pad_value: float = 0
    ) -> np.ndarray:
        """Read some rows, ragged ones padded on the right.

        Args:
            column: The column's name.
            rows: (batch,) int, row numbers in any order.
            width: int, width of the result if the column is ragged; longer rows are cut off. The
                longest row's if None.
            pad_value: What stands where a row has ended.

        Returns:
            (batch, ...) array, (batch, width, ...) for a ragged column.
        """
        rows = np.asarray(rows)
        values = self.column(column)
        if not self.is_ragged(column):
            found = np.array(values[rows])
            self._count_touched(f"{column}.bin", len(rows), found.nbytes)
            return found
        lengths = self.lengths(column)[rows]
        width = int(lengths.max(initial=0)) if width is None else width
        starts = self._offsets(column)[rows]
        position = np.arange(width)
        inside = position < lengths[:, None]
        entries = np.minimum(starts[:, None] + position, max(len(values) - 1, 0))
        if len(values):
            found = values[entries]
        else:
            found = np.empty((len(rows), width, *values.shape[1:]), values.dtype)
        found[~inside] = pad_value
        self._count_touched(f"{column}.offsets.bin", len(rows), 2 * starts.nbytes)
        self._count_touched(f"{column}.bin", len(rows), found.nbytes)
        return found

    def _column(self, name: str) -> dict[str, Any]:
        if name not in self._described:
            raise ValueError(
                f"The store has no column {name!r}. Columns: {', '.join(self.columns)}."
                f"{did_you_mean(name, self.columns)}"
            )
        found: dict[str, Any] = self._described[name]
        return found

    def _has_all_rows(self, name: str) -> bool:
        try:
            values = self.column(name)
            if not self.is_ragged(name):
                return len(values) == self.num_rows
            offsets = self._offsets(name)
        except ValueError:  # The file's size is no multiple of an entry's.
            return False
        return len(offsets) == self.num_rows + 1 and offsets[-1] == len(values)

    def _offsets(self, column: str) -> np.ndarray:
        return self._map(f"{column}.offsets.bin", np.dtype(np.int64), [])

    def _map(self, file: str, dtype: np.dtype[Any], shape: list[int]) -> np.ndarray:
        if file not in self._maps:
            path = self.path / file
            if path.stat().st_size == 0:  # Nothing cannot be mapped.
                self._maps[file] = np.empty((0, *shape), dtype)
            else:
                mapped = np.memmap(path, dtype, mode="r").reshape(-1, *shape)
                self._maps[file] = np.asarray(mapped)  # Rows of a memmap are slower to take.
        return self._maps[file]

    def _count_touched(self, file: str, reads: int, size: int) -> None:
        touched = self._touched.get(file, 0) + reads * _BYTES_PER_READ + size
        self._touched[file] = min(touched, self._maps[file].nbytes)
        if sum(self._touched.values()) > _BYTES_UNTIL_RELEASE:
            self._release()

    def _release(self) -> None:
        """Give mapped pages back to the system, which keeps them cached."""
        self._touched.clear()
        for array in self._maps.values():
            base = array.base if isinstance(array.base, np.memmap) else array
            mapped = getattr(base, "_mmap", None)
            if mapped is not None and hasattr(mapped, "madvise"):
                mapped.madvise(mmap.MADV_DONTNEED)


def build_store(
    path: "str | os.PathLike[str]",
    key: str,
    chunks: Callable[[], Iterable[Mapping[str, "np.ndarray | Ragged"]]],
    *,
    description: str | None = None,
    total: int | None = None,
) -> Store:
    """Open a store, or build it where it is missing, stale or damaged.

    Args:
        path: The store's folder.
        key: Names what goes in. A store of another key is built anew.
        chunks: Called to build; returns chunks of columns, as `StoreWriter.append` takes them.
        description: What a progress bar says; no bar if None.
        total: int, number of rows, for the bar.

    Returns:
        The store.

    Raises:
        StoreWriteError: The disk is full, `path` is in no folder that can be written to, or
            something else keeps from writing.
        ValueError: `path` holds something other than a store.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/store"
        >>> rows = Ragged(np.array([5, 6, 7]), np.array([0, 1, 3]))
        >>> store = build_store(path, "v1", lambda: [{"token_ids": rows}])
        >>> store.gather("token_ids", np.array([0, 1])).tolist()
        [[5, 0], [6, 7]]
    """
    path = Path(path)
    _clear_unfinished(path)
    reason = ""
    if path.exists():
        try:
            store = Store(path)
            if store.key == key:
                return store
            reason = "it was made from something else"
        except ValueError as error:
            reason = str(error)
    with StoreWriter(path, key) as writer:
        if reason:
            print(f"The store {path.name} is built anew: {reason}.", file=sys.stderr)
        stream = chunks()
        if description is not None:
            stream = track(stream, description, total, size=_count_rows)
        for chunk in stream:
            writer.append(chunk)
    return _open_again(path)


def cache_dir() -> Path:
    """Return where stores are kept: `$KERAS_FINETUNE_CACHE`, else `~/.cache/keras_finetune`."""
    chosen = os.environ.get("KERAS_FINETUNE_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "keras_finetune"


def _open_again(path: Path) -> Store:
    """Open a store that another process may be replacing with the same one at this moment."""
    for _ in range(20):
        try:
            return Store(path, verify=False)
        except (ValueError, OSError):
            time.sleep(0.05)
    return Store(path, verify=False)


def _count_rows(chunk: Mapping[str, "np.ndarray | Ragged"]) -> int:
    first = next(iter(chunk.values()))
    return len(first.offsets) - 1 if isinstance(first, Ragged) else len(first)


def _clear_unfinished(path: Path) -> None:
    """Remove what a killed process left; a living one's work is left alone."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        mark, _, state = left.name[len(path.name) + 2 :].rpartition(".")
        if state in ("unfinished", "replaced") and is_of_dead_process(mark):
            print(f"The store {path.name} was left unfinished and is removed.", file=sys.stderr)
            shutil.rmtree(left, ignore_errors=True)
