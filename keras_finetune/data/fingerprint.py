"""Digests that say whether data changed."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def combine(*parts: str | bytes) -> str:
    """Return the SHA-256 digest of some parts, in hexadecimal.

    Each part counts with its length, so that ``("ab", "c")`` and ``("a", "bc")`` differ.

    Example:
        >>> combine("ab", "c") == combine("a", "bc")
        False
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(data)}:".encode() + data)
    return digest.hexdigest()


def hash_chunks(columns: Sequence[str], chunks: Iterable[dict[str, list[Any]]]) -> str:
    """Return the digest of the rows of a table; the size of the chunks counts too."""
    digest = hashlib.sha256(json.dumps(list(columns)).encode())
    for chunk in chunks:
        values = [chunk[name] for name in columns]
        text = json.dumps(values, ensure_ascii=False, default=_plain)
        digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def file_state(path: Path) -> str:
    """Return what changes when a file changes, which is not read for it."""
    stat = path.stat()
    # A tool may set the time of a file's content, but not those of the file itself.
    times = f"{stat.st_mtime_ns} {stat.st_ctime_ns}"
    return f"{path.resolve()} {stat.st_ino} {stat.st_size} {times}"


def _plain(value: Any) -> Any:
    """Make JSON of what json itself cannot: arrays, NumPy scalars, bytes."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        # Not repr(), which shows dots in the middle of a long array.
        return [value.dtype.str, value.shape, value.tobytes().hex()]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value.hex() if isinstance(value, bytes) else repr(value)
