"""Plain text made into rows: one stream cut into pieces, or texts that share rows."""

import sys
from typing import Any

import numpy as np

from keras_finetune.data import Examples, Store, Tokenizer
from keras_finetune.data.packing import pack_rows
from keras_finetune.data.text_checks import check_texts
from keras_finetune.tasks.encoding import encoded_store, ragged


def blocks_store(examples: Examples, tokenizer: Tokenizer, column: str, length: int) -> Store:
    """String texts together, a separator after each, and cut them into rows.

    What is left at the end of the last text and fills no row is dropped.

    Args:
        examples: Texts.
        tokenizer: What encodes them.
        column: Name of the text column.
        length: int, tokens of a row.

    Returns:
        A store with the column `token_ids`, (rows, length) int32.

    Raises:
        ValueError: There is less text than one row takes.
    """
    examples.check_columns([column])
    end = _separator(tokenizer)
    if not len(end) and len(examples) > 1:
        print(
            "The tokenizer has no eos or sep token: nothing marks where a text ends.",
            file=sys.stderr,
        )
    rest = np.array([], np.int32)

    def encode(chunk: dict[str, list[Any]], first_row: int) -> dict[str, Any]:
        nonlocal rest
        if first_row == 0:
            rest = np.array([], np.int32)
        check_texts(chunk[column], first_row, f"text in column {column!r}")
        encoded = tokenizer.encode_batch(chunk[column], special_tokens=False)
        rows = np.split(encoded.token_ids, encoded.offsets[1:-1])
        joined = np.concatenate([rest, *(part for row in rows for part in (row, end))])
        full = len(joined) // length * length
        rest = joined[full:]
        return {"token_ids": joined[:full].reshape(-1, length)}

    options = {"kind": "text_blocks", "column": column, "length": length}
    store = encoded_store(examples, tokenizer, options, encode)
    if store.num_rows == 0:
        raise ValueError(
            f"The text has fewer than {length} tokens, which is one row. Give more text, or a "
            "smaller max_length."
        )
    return store


def packed_store(
    examples: Examples, tokenizer: Tokenizer, column: str, length: int, *, next_ids: bool
) -> Store:
    """Put texts into rows, several where they fit, each with a separator after it.

    A text that is longer than a row is cut into pieces, which are texts of their own.

    Args:
        examples: Texts.
        tokenizer: What encodes them.
        column: Name of the text column.
        length: int, tokens of a row at most.
        next_ids: Whether each token needs one that comes next; the last of a text then is none of
            the inputs.

    Returns:
        A store with the ragged int32 columns `token_ids`, `text_starts` (what a padding mask says:
        one plus the column at which the token's text begins), and `next_ids` if asked for.

    Raises:
        ValueError: There is no text.
    """
    examples.check_columns([column])
    end = _separator(tokenizer)

    def encode(chunk: dict[str, list[Any]], first_row: int) -> dict[str, Any]:
        check_texts(chunk[column], first_row, f"text in column {column!r}")
        encoded = tokenizer.encode_batch(chunk[column], special_tokens=False)
        texts = np.split(encoded.token_ids, encoded.offsets[1:-1])
        pieces = [
            piece
            for text in texts
            if len(text)
            for piece in _pieces(np.concatenate([text, end]), length, next_ids)
        ]
        sizes = np.array([len(piece) - next_ids for piece in pieces], np.int64)
        columns: dict[str, list[np.ndarray]] = {"token_ids": [], "text_starts": []}
        if next_ids:
            columns["next_ids"] = []
        for row in pack_rows(sizes, length):
            begins = np.cumsum([0, *sizes[row][:-1]])
            parts = [pieces[number] for number in row]
            columns["token_ids"].append(np.concatenate([p[: len(p) - next_ids] for p in parts]))
            columns["text_starts"].append(np.repeat(begins + 1, sizes[row]))
            if next_ids:
                columns["next_ids"].append(np.concatenate([p[1:] for p in parts]))
        return {name: ragged(rows) for name, rows in columns.items()}

    options = {"kind": "packed_texts", "column": column, "length": length, "next_ids": next_ids}
    store = encoded_store(examples, tokenizer, options, encode)
    if store.num_rows == 0:
        raise ValueError(f"There is no text in column {column!r}.")
    return store


def _separator(tokenizer: Tokenizer) -> np.ndarray:
    separator = next((i for i in (tokenizer.eos_id, tokenizer.sep_id) if i is not None), None)
    return np.array([] if separator is None else [separator], np.int32)


def _pieces(text: np.ndarray, length: int, next_ids: bool) -> list[np.ndarray]:
    """Cut a text; with `next_ids` a piece ends with the token that the next begins with."""
    pieces = [text[i : i + length + next_ids] for i in range(0, len(text), length)]
    return [piece for piece in pieces if len(piece) > next_ids]
