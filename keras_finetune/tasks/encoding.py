"""Encoded examples on disk, keyed by everything that went into them."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from keras_finetune.data import (
    EncodedBatch,
    Examples,
    Ragged,
    Store,
    Tokenizer,
    build_store,
    cache_dir,
)

Encoded = dict[str, Any]


class Encoder(Protocol):
    """What turns text into token ids, and says what identifies it."""

    @property
    def fingerprint(self) -> str:
        """What differs for encoders that encode differently."""
        ...


def encoded_store(
    examples: Examples,
    tokenizer: Encoder,
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
        directory: Where the store goes, without a progress bar; the cache directory if None.

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
    description = "Encoding" if directory is None else None
    return build_store(path, key, chunks, description=description, total=total)


def token_columns(encoded: EncodedBatch, tokenizer: Tokenizer) -> Encoded:
    """Turn encoded texts into columns of a store, with at least one token in each row.

    A row that is nothing but padding has no meaning to a model, and LSTM kernels on a GPU refuse
    it. Tokenizers without special tokens make such rows of empty texts.

    Args:
        encoded: What `Tokenizer.encode_batch` returned.
        tokenizer: Whose end, separator or unknown token stands in an empty row.
    """
    empty = np.flatnonzero(encoded.lengths == 0)
    known = (tokenizer.eos_id, tokenizer.sep_id, tokenizer.unk_id)
    filler = next((number for number in known if number is not None), 0)
    at = encoded.offsets[empty]
    offsets = np.concatenate([[0], np.cumsum(np.maximum(encoded.lengths, 1))])
    columns = {"token_ids": Ragged(np.insert(encoded.token_ids, at, filler), offsets)}
    if encoded.segment_ids is not None:
        columns["segment_ids"] = Ragged(np.insert(encoded.segment_ids, at, 0), offsets)
    return columns


def ragged(rows: Sequence[np.ndarray]) -> Ragged:
    """Turn rows of integers into a column of a store.

    Args:
        rows: One-dimensional arrays, of any lengths.

    Example:
        >>> ragged([np.array([1, 2]), np.array([3])]).offsets.tolist()
        [0, 2, 3]
    """
    offsets = np.cumsum([0, *(len(row) for row in rows)])
    flat = np.concatenate(rows) if rows else np.array([], np.int32)
    return Ragged(flat.astype(np.int32), offsets)
