"""English messages and their Chinese translations, from the catalogues of an installed Django."""

import re
import struct
from collections.abc import Iterator
from pathlib import Path

LOCALE = "zh_Hans"
_MAGIC = 0x950412DE
# Python's placeholders, HTML, and the mark of a keyboard short cut: code rather than language.
_PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%[a-z]|\{\w*\}|<[^>]+>|&\w+;")
_HAN = re.compile(r"[\u4e00-\u9fff]")


def read_catalogue(data: bytes) -> Iterator[tuple[str, str]]:
    r"""Read the messages of a compiled gettext catalogue (a ``.mo`` file).

    The standard library's `gettext` looks messages up, but does not list them.

    Args:
        data: The file's content.

    Yields:
        Pairs of a message and its translation, without the catalogue's header. A context comes
        before its message, with ``"\x04"`` between; forms of a plural have ``"\0"`` between.

    Raises:
        ValueError: It is no such catalogue.

    Example:
        >>> header = struct.pack("<7I", 0x950412DE, 0, 1, 28, 36, 0, 0)
        >>> strings = struct.pack("<4I", 3, 44, 3, 48) + b"one\0" + "一".encode() + b"\0"
        >>> list(read_catalogue(header + strings))
        [('one', '一')]
    """
    order = next((o for o in "<>" if data[:4] == struct.pack(f"{o}I", _MAGIC)), None)
    if order is None or len(data) < 20:
        raise ValueError("This is not a compiled gettext catalogue, a .mo file.")
    _, count, *tables = struct.unpack_from(f"{order}4I", data, 4)
    for number in range(count):
        texts = []
        for table in tables:
            length, start = struct.unpack_from(f"{order}2I", data, table + 8 * number)
            texts.append(data[start : start + length].decode("utf-8"))
        if texts[0]:
            yield texts[0], texts[1]


def is_language(message: str, translation: str) -> bool:
    """Tell whether a pair is text to translate, rather than a format or a symbol.

    Args:
        message: In English.
        translation: In Chinese.

    Returns:
        False for plural forms, for more than one placeholder, and where words are missing.

    Example:
        >>> is_language("Enter a whole number.", "输入整数。"), is_language("%d-%m", "%d-%m")
        (True, False)
    """
    if "\0" in message or len(_PLACEHOLDER.findall(message)) > 1:
        return False
    plain = _PLACEHOLDER.sub("", message)
    return bool(re.search(r"[A-Za-z]{2,}", plain)) and bool(_HAN.search(translation))


def translation_rows(folder: Path) -> Iterator[dict[str, str]]:
    """Make the rows of ``translation_en_zh``: how is this message of Django said in Chinese?

    Each English message is there once, whatever its case and last mark, with its first translation.

    Args:
        folder: That of the package ``django``.

    Yields:
        Rows with ``en``, ``zh`` and ``catalogue``, as ``"contrib.admin"``.

    Raises:
        ValueError: There is no Chinese catalogue.
    """
    paths = sorted(folder.rglob(f"locale/{LOCALE}/LC_MESSAGES/*.mo"))
    if not paths:
        raise ValueError(
            f"The installed Django has no catalogues of {LOCALE} in {str(folder)!r}. Install it "
            "with pip, whole: pip install --force-reinstall django"
        )
    seen = set()
    for path in paths:
        catalogue = ".".join(path.relative_to(folder).parts[:-4])
        for message, translation in read_catalogue(path.read_bytes()):
            message = " ".join(message.rpartition("\x04")[2].split())
            translation = " ".join(translation.split())
            alike = message.casefold().rstrip(" .:!?…")
            if alike not in seen and is_language(message, translation):
                seen.add(alike)
                yield {"en": message, "zh": translation, "catalogue": catalogue}
