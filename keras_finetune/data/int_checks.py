"""Is it a whole number?"""

from numbers import Integral
from typing import Any, TypeGuard


def is_int(value: Any) -> TypeGuard[int]:
    """Tell whether a value is an int, Python's or NumPy's, and no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def checked_int(name: str, value: Any, least: int) -> int:
    """Return an int, Python's or NumPy's, as Python's, which JSON takes.

    Args:
        name: The argument's name.
        value: What it was given.
        least: int, the smallest that may be.

    Raises:
        ValueError: It is no int, or below that.
    """
    if not is_int(value) or value < least:
        raise ValueError(f"{name} must be an int of at least {least}. Received: {value!r}")
    return int(value)
