"""From characters of a text to its tokens, and back."""

import unicodedata

import numpy as np


def written_spans(text: str, char_spans: np.ndarray) -> np.ndarray:
    """Say which characters each token stands for, as a reader would cut them out.

    White space at either end of a token does not belong to it. An accent that the tokenizer
    removed, and that therefore no token stands for, belongs to the letter before.

    Args:
        text: The text.
        char_spans: (tokens, 2) int, as `Tokenizer.encode_batch` gives them.

    Returns:
        (tokens, 2) int64; start and end are equal for a token that is nothing but white space.

    Example:
        >>> written_spans("a cat", np.array([[0, 1], [1, 5]])).tolist()
        [[0, 1], [2, 5]]
    """
    spans = np.asarray(char_spans, np.int64).reshape(-1, 2)
    size = len(text)
    blank = np.fromiter(map(str.isspace, text), bool, size)
    places = np.arange(size + 1)
    # At each place: where the next character begins that is not blank, where the last one ended.
    begins = np.minimum.accumulate(np.append(np.where(blank, size, places[:-1]), size)[::-1])[::-1]
    ends = np.maximum.accumulate(np.append(0, np.where(blank, 0, places[1:])))
    starts, stops = begins[spans[:, 0]], ends[spans[:, 1]]
    empty = starts >= stops
    starts, stops = (np.where(empty, spans[:, 0], found) for found in (starts, stops))

    edges = np.zeros(size + 1, np.int64)
    np.add.at(edges, spans[:, 0], 1)
    np.add.at(edges, spans[:, 1], -1)
    left_over = (np.cumsum(edges)[:-1] == 0) & ~blank
    for place in np.flatnonzero(left_over):  # in order, so that several accents join one letter
        if unicodedata.category(text[place]).startswith("M"):
            stops[(stops == place) & ~empty] = place + 1
    return np.stack([starts, stops], axis=1)


def covering_tokens(spans: np.ndarray, start: int, end: int) -> tuple[int, int] | None:
    """Find the tokens that hold a stretch of characters.

    Args:
        spans: (tokens, 2) int, from `written_spans`.
        start: The stretch's first character.
        end: The one after its last.

    Returns:
        Its first and its last token. They stand for exactly the stretch where it begins and ends
        with a token, else for more. None where no token stands for any of it.

    Example:
        >>> covering_tokens(np.array([[0, 3], [4, 7], [7, 8]]), 4, 8)
        (1, 2)
        >>> covering_tokens(np.array([[0, 3], [4, 7], [7, 8]]), 3, 4) is None
        True
    """
    touched = (spans[:, 1] > start) & (spans[:, 0] < end) & (spans[:, 0] < spans[:, 1])
    found = np.flatnonzero(touched)
    return (int(found[0]), int(found[-1])) if len(found) else None
