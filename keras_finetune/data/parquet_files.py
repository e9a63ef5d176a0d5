"""Parquet files of rows, and sets of them in several parts."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_finetune.data.examples import Examples
from keras_finetune.data.fingerprint import combine, file_state
from keras_finetune.data.rows import CHUNK_ROWS


def read_parquet(path: str | Path) -> Examples:
    """Read a Parquet file. Class names that Hugging Face datasets noted in it are kept.

    Raises:
        ImportError: `pyarrow` is not installed.
        ValueError: It is no whole Parquet file, two columns have one name, or there are no rows.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f'Reading "{path}" needs pyarrow: pip install pyarrow') from error
    path = Path(path)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns, num_rows = file.schema_arrow.names, file.metadata.num_rows
            noted = (file.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path}: no whole Parquet file ({error}). Copy it again.") from error
    features = json.loads(noted).get("info", {}).get("features", {})
    if len(set(columns)) < len(columns):
        raise ValueError(f"{path}: the columns need names that differ; they are {columns}")
    names = {
        column: feature["names"]
        for column, feature in features.items()
        if isinstance(feature, dict) and feature.get("names")
    }

    def factory() -> Iterator[dict[str, list[Any]]]:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(CHUNK_ROWS):
                yield batch.to_pydict()

    if not num_rows:
        raise ValueError(f'"{path}" has no rows')
    fingerprint = combine(file_state(path))
    return Examples(factory, columns, num_rows=num_rows, names=names, fingerprint=fingerprint)


def read_shards(paths: Sequence[Path]) -> Examples:
    """Read Parquet files that are one set of rows together, one after the other.

    Raises:
        ValueError: Their columns differ.
    """
    first, *others = parts = [read_parquet(path) for path in paths]
    for path, part in zip(paths[1:], others, strict=True):
        if part.columns != first.columns:
            raise ValueError(
                f"{path}: the columns must be those of {paths[0].name}, "
                f"{', '.join(first.columns)}; they are {', '.join(part.columns)}"
            )

    def factory() -> Iterator[dict[str, list[Any]]]:
        for part in parts:
            yield from part.chunks(CHUNK_ROWS)

    def fingerprint() -> str:
        return combine(*(part.fingerprint for part in parts))

    num_rows = sum(map(len, parts))
    return Examples(
        factory, first.columns, num_rows=num_rows, names=first.names, fingerprint=fingerprint
    )
