"""The nearest name to a mistyped one, for error messages."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return ``' Did you mean "…"?'`` for the nearest candidate, or an empty string.

    Example:
        >>> did_you_mean("bakbone", ["backbone", "head"])
        ' Did you mean "backbone"?'
        >>> did_you_mean("xyz", ["backbone", "head"])
        ''
    """
    nearest = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.5)
    return f' Did you mean "{nearest[0]}"?' if nearest else ""
