"""Is it text?"""

from collections.abc import Sequence
from typing import Any


def check_texts(
    texts: Sequence[Any], first_row: int = 0, what: str = "text", *, may_be_empty: bool = True
) -> None:
    """Raise a `ValueError` that names the first row whose value is no text.

    Args:
        texts: The values; a list of `str` passes at the cost of a glance.
        first_row: Number of the row of the first value, for the message.
        what: What the values are, for the message.
        may_be_empty: Whether "" passes where the texts go next, for the message.

    Raises:
        ValueError: A value is None, NaN, a number, or anything else but a `str`.

    Example:
        >>> check_texts(["fine", float("nan")], first_row=1000)
        Traceback (most recent call last):
            ...
        ValueError: Row 1001: the text is nan (missing). Drop the row, or put "" in its place.
    """
    if all(kind is str for kind in set(map(type, texts))):
        return
    for row, text in enumerate(texts, first_row):
        check_text(text, row, what, may_be_empty=may_be_empty)


def check_text(text: Any, row: int, what: str = "text", *, may_be_empty: bool = True) -> None:
    """Raise a `ValueError` that names the row if its value is no text."""
    if isinstance(text, str):
        return
    if text is None or (isinstance(text, float) and text != text):
        fix = 'put "" in its place' if may_be_empty else "fill it in"
        raise ValueError(f"Row {row}: the {what} is {text} (missing). Drop the row, or {fix}.")
    if isinstance(text, bytes):
        fix = "Decode it first: value.decode('utf-8')."
    elif isinstance(text, (int, float)):
        fix = "Convert numbers with str(value), or choose the column that holds the text."
    else:
        fix = "Each text is one str; choose the column that holds the text."
    raise ValueError(f"Row {row}: the {what} is {text!r:.60} ({type(text).__name__}). {fix}")


def refuse_surrogates(batch: Sequence[Any], first_row: int) -> None:
    """Raise a `ValueError` that names the first row whose text, or one of a pair, is not Unicode.

    Args:
        batch: Texts or pairs, already checked to be `str`.
        first_row: Number of the row of the first of them, for the message.

    Raises:
        ValueError: A text has half of a surrogate pair, as broken JSON escapes leave it.
    """
    for row, texts in enumerate(batch, first_row):
        for text in (texts,) if isinstance(texts, str) else texts:
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise ValueError(
                    f"Row {row}: the text has half a character ({error.reason} at "
                    f"{error.start}). Repair it: text.encode('utf-8', 'replace').decode()"
                ) from None
