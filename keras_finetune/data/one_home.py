"""Which split a text belongs to, so that none is in two."""

import hashlib
from collections.abc import Iterable

from keras_finetune.data.docstrings import Docstring

SPLITS = ("train", "validation", "test")


def split_of(name: str) -> str:
    """Return the split of everything that a module holds: train, validation or test.

    It depends on the name alone (SHA-256; 80, 10 and 10 per cent), so it is the same in each
    configuration and with each version of the packages.

    Args:
        name: Of the module, or whatever else is to stay together.

    Example:
        >>> split_of("numpy.linalg._linalg") == split_of("numpy.linalg._linalg")
        True
    """
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 10
    return "train" if share < 8 else SPLITS[share - 7]


def with_one_home(found: Iterable[tuple[str, Docstring]]) -> dict[str, Docstring]:
    """Map the texts that only one package and one split have to where each is first.

    Args:
        found: Texts, and where they are from.
    """
    homes: dict[str, Docstring] = {}
    several: set[str] = set()
    for text, home in found:
        first = homes.setdefault(text, home)
        if (first.package, split_of(first.module)) != (home.package, split_of(home.module)):
            several.add(text)
    return {text: home for text, home in homes.items() if text not in several}
