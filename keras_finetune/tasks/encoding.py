"""Encoded examples on disk, keyed by everything that went into them."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_finetune.data import Examples, Store, Tokenizer, build_store, cache_dir

Encoded = dict[str, Any]


def encoded_store(
    examples: Examples,
    tokenizer: Tokenizer,
    options: Mapping[str, Any],
    encode: Callable[[dict[str, list[Any]], int], Encoded],
    *,
    total: int | None = None,
    directory: Path | None = None,
) -> Store:
    """Open the store of these examples, or build it.

    Args:
        examples: What to encode.
        tokenizer: What encodes it.
        options: All else that changes the result; must start with the task's `"kind"`.
        encode: From a chunk of rows and the number of its first row to columns of the store.
        total: int, rows that come out, for the progress bar; None if not known.
        directory: Where the store goes; the cache directory if None.

    Returns:
        The store.

    Raises:
        ValueError: There are no rows.
    """
    if len(examples) == 0:
        raise ValueError(
            "The examples are empty, so that there is nothing to encode. Check the split or the "
            "file that they come from."
        )
    described = json.dumps(
        [examples.fingerprint, tokenizer.fingerprint, dict(options)], sort_keys=True
    )
    key = hashlib.sha256(described.encode()).hexdigest()

    def chunks() -> Iterator[Encoded]:
        first_row = 0
        for chunk in examples.chunks():
            yield encode(chunk, first_row)
            first_row += len(next(iter(chunk.values())))

    path = (directory or cache_dir()) / f"{options['kind']}-{key[:20]}"
    return build_store(path, key, chunks, description="Encoding", total=total)
