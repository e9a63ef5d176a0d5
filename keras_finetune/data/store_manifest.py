"""What a store's manifest says, checked: it may be damaged, or of another version."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_finetune.data.store_writer import FORMAT, MANIFEST

_KEYS = {"format", "key", "rows", "columns"}


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a store.

    Args:
        path: The store's folder.

    Returns:
        The manifest, as `StoreWriter` writes it.

    Raises:
        ValueError: There is none, or it is damaged, or of another format.
    """
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{path} has no {MANIFEST}, so that it is no complete store") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise damaged(path) from None
    if not isinstance(manifest, dict) or not manifest.keys() >= _KEYS:
        raise damaged(path)
    if manifest["format"] != FORMAT:
        raise ValueError(f"{path} has the format {manifest['format']!r}, not {FORMAT}")
    columns, rows = manifest["columns"], manifest["rows"]
    if not isinstance(columns, dict) or not isinstance(rows, int) or (rows and not columns):
        raise damaged(path)
    for name, described in columns.items():
        if not _is_column(name, described):
            raise damaged(path)
    return manifest


def damaged(path: Path) -> ValueError:
    """Make the error for a manifest that says what cannot be."""
    return ValueError(f"{MANIFEST} in {path} is damaged")


def dtype_of(name: str) -> np.dtype[Any]:
    """Return the dtype that a manifest names."""
    if name == "bfloat16":
        import ml_dtypes  # Adds it to NumPy's types.

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def check_file(folder: Path, described: Mapping[str, Any], verify: bool) -> None:
    """Refuse a file that is not as it was written.

    Args:
        folder: The store's folder.
        described: What the manifest says of the file.
        verify: Whether to compare its checksum, too.

    Raises:
        ValueError: It is missing, of another size or of another checksum.
    """
    path = folder / described["name"]
    size = path.stat().st_size if path.is_file() else None
    if size != described["bytes"]:
        raise ValueError(f"{path.name} has {size} bytes where {described['bytes']} were written")
    if not verify:
        return
    crc = 0
    with path.open("rb") as file:
        while block := file.read(2**22):
            crc = zlib.crc32(block, crc)
    if crc != described["crc32"]:
        raise ValueError(f"{path.name} is damaged: its checksum differs from what was written")


def _is_column(name: str, described: Any) -> bool:
    try:
        files = [file["name"] for file in described["files"] if {"bytes", "crc32"} <= file.keys()]
        expected = [f"{name}.bin", *[f"{name}.offsets.bin"] * bool(described["ragged"])]
        is_shape = all(isinstance(size, int) for size in described["shape"])
        # Those that `StoreWriter` takes; bfloat16 is of a kind of its own.
        is_number = described["dtype"] == "bfloat16" or dtype_of(described["dtype"]).kind in "biuf"
    except (KeyError, TypeError, AttributeError):
        return False
    return files == expected and is_shape and is_number
