import gettext
import io
import struct

import pytest

from keras_finetune.data.django_messages import is_language, read_catalogue, translation_rows


def catalogue(messages, order="<"):
    """A .mo file, as msgfmt writes it."""
    pairs = sorted(
        (a.encode(), b.encode())
        for a, b in {"": "Content-Type: text/plain; charset=UTF-8\n", **messages}.items()
    )
    start, tables, strings = 28 + 16 * len(pairs), [], b""
    for side in (0, 1):
        for pair in pairs:
            tables += [len(pair[side]), start + len(strings)]
            strings += pair[side] + b"\0"
    header = (0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0)
    return struct.pack(f"{order}{7 + len(tables)}I", *header, *tables) + strings


@pytest.mark.parametrize("order", ["<", ">"])
def test_reads_what_gettext_reads(order):
    messages = {"one": "一", "menu\x04Open": "打开", "Two lines\nof it": "两行\n文字"}
    data = catalogue(messages, order)
    assert dict(read_catalogue(data)) == messages
    theirs = gettext.GNUTranslations(io.BytesIO(data))
    assert all(theirs.gettext(message) == text for message, text in read_catalogue(data))


def test_what_is_no_catalogue():
    with pytest.raises(ValueError, match=r"a \.mo file"):
        list(read_catalogue(b"msgid"))


@pytest.mark.parametrize(
    ("message", "translation", "kept"),
    [
        ("Hello %(name)s", "你好 %(name)s", True),
        ("%(one)s to %(other)s", "从%(one)s到%(other)s", False),
        ("%d day\0%d days", "%d 天", False),
        ("<b>%s</b>", "<b>%s</b> 中", False),
        ("Django", "Django", False),
        ("A", "甲", False),
    ],
)
def test_is_language(message, translation, kept):
    assert is_language(message, translation) is kept


def test_rows_are_there_once_and_on_one_line(tmp_path):
    for part, messages in (
        ("conf", {"Enter a\n  number.": "输入\n数字。", "month\x04May": "五月"}),
        ("contrib/admin", {"enter a number": "输入数", "Log out": "注销"}),
    ):
        path = tmp_path / part / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.mo"
        path.parent.mkdir(parents=True)
        path.write_bytes(catalogue(messages))
    assert sorted(translation_rows(tmp_path), key=str) == [
        {"en": "Enter a number.", "zh": "输入 数字。", "catalogue": "conf"},
        {"en": "Log out", "zh": "注销", "catalogue": "contrib.admin"},
        {"en": "May", "zh": "五月", "catalogue": "conf"},
    ]


def test_a_django_without_catalogues(tmp_path):
    with pytest.raises(ValueError, match="no catalogues of zh_Hans"):
        list(translation_rows(tmp_path))
