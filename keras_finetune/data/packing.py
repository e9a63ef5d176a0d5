"""Putting short sequences into rows of one length, so that little is padding."""

import numpy as np


def pack_rows(lengths: np.ndarray, row_length: int) -> list[list[int]]:
    """Put sequences into as few rows as one pass finds: the longest first, each where it fits best.

    Args:
        lengths: (sequences,) int, each from 1 to `row_length`.
        row_length: int, tokens that a row holds.

    Returns:
        For each row the numbers of its sequences, ascending.

    Raises:
        ValueError: A sequence is longer than a row, or empty.

    Example:
        >>> pack_rows(np.array([3, 6, 2, 5]), row_length=8)
        [[1, 2], [0, 3]]
    """
    lengths = np.asarray(lengths)
    if len(lengths) and not (lengths.min() >= 1 and lengths.max() <= row_length):
        raise ValueError(
            f"Sequences must have 1 to row_length={row_length} tokens. Received some of "
            f"{lengths.min()} to {lengths.max()}."
        )
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(row_length + 1)]
    for number in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[number])
        room = next((r for r in range(length, row_length + 1) if with_room[r]), None)
        if room is None:
            room = row_length
            rows.append([])
            row = len(rows) - 1
        else:
            row = with_room[room].pop()
        rows[row].append(number)
        with_room[room - length].append(row)
    return [sorted(row) for row in rows]
