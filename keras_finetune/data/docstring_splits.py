"""Which split a docstring is in, and which texts are in one split only."""

import hashlib
from collections.abc import Iterable
from typing import Any

from keras_finetune.data.docstrings import Docstring

SPLITS = ("train", "validation", "test")

Row = dict[str, Any]


def split_of(module: str) -> str:
    """Return the split of everything that a module holds: train, validation or test.

    It depends on the name alone (SHA-256; 80, 10 and 10 per cent), so it is the same in each
    configuration and with each version of the packages.

    Example:
        >>> split_of("numpy.linalg._linalg") == split_of("numpy.linalg._linalg")
        True
    """
    share = int.from_bytes(hashlib.sha256(module.encode()).digest()[:4], "big") % 10
    return "train" if share < 8 else SPLITS[share - 7]


def with_one_home(found: Iterable[tuple[str, Docstring]]) -> dict[str, Docstring]:
    """Map the texts that only one package and one split have to where each is first.

    Args:
        found: Texts, and the docstrings that they are from, in a fixed order.
    """
    homes: dict[str, Docstring] = {}
    several: set[str] = set()
    for text, home in found:
        first = homes.setdefault(text, home)
        if (first.package, split_of(first.module)) != (home.package, split_of(home.module)):
            several.add(text)
    return {text: home for text, home in homes.items() if text not in several}


def digest(text: str) -> str:
    """Return the SHA-256 digest of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
