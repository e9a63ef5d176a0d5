"""Plain text cut into rows of equal length."""

from typing import Any

import numpy as np

from keras_finetune.data import Examples, Store, Tokenizer
from keras_finetune.data.text_checks import check_texts
from keras_finetune.tasks.encoding import encoded_store


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
    separator = next((i for i in (tokenizer.eos_id, tokenizer.sep_id) if i is not None), None)
    end = np.array([] if separator is None else [separator], np.int32)
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
