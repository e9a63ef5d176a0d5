"""Checks of what tasks are made with."""

from collections.abc import Iterable
from typing import Any


def text_columns(text: Any) -> tuple[str, ...]:
    """Return the names of one text column or two.

    Args:
        text: A name, or a list or tuple of names.

    Raises:
        ValueError: It is something else.
    """
    names = [text] if isinstance(text, str) else text
    named = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    if not named or len(names) not in (1, 2):
        raise ValueError(
            'text must be the name of a column, such as text="text", or a pair of them for pairs '
            f'of texts, text=("premise", "hypothesis"). Received: text={text!r}'
        )
    return tuple(names)


def label_names(labels: Any, *, least: int = 2) -> list[str]:
    """Return the names of classes as a list of `str`.

    Args:
        labels: The names; numbers are names, too.
        least: int, how many there must be.

    Raises:
        ValueError: There are fewer, one is None or given twice, or `labels` is no list.
    """
    given = [] if isinstance(labels, str) or not isinstance(labels, Iterable) else list(labels)
    names = [str(name) for name in given if name is not None]
    if len(set(names)) < max(len(given), least):
        raise ValueError(
            f"labels must be a list of {least} different names or more, such as those that "
            f"keras_finetune.data.read(...).label_names() finds. Received: {labels!r}"
        )
    return names
