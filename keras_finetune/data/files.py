"""Files of rows: JSON lines, CSV, TSV, text, Parquet, and a folder a class.

Text files may be gzipped (``.gz`` after the suffix) and are UTF-8, with or without a byte order
mark. All are streamed.
"""

import csv
import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_finetune.data.examples import Examples
from keras_finetune.data.fingerprint import combine, file_state
from keras_finetune.data.mail import mail_text
from keras_finetune.data.parquet_files import read_parquet
from keras_finetune.data.question_answers import question_rows, read_squad
from keras_finetune.data.rows import all_keys, tuple_chunks
from keras_finetune.suggest import did_you_mean

_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d+)?([eE][-+]?\d+)?")


def read_file(path: str | Path) -> Examples:
    """Read a file of rows, or a folder with a folder of files a class.

    ===================  ======================================================================
    ``.jsonl``           an object a line; see `read_jsonl`
    ``.csv``, ``.tsv``   a header line, then a row a line; see `read_table`
    ``.txt``             a row a line that is not blank, column ``text``
    ``.parquet``         needs ``pip install pyarrow``
    ``.json``            SQuAD's nested format; see `read_squad`
    a folder             ``folder/label/*.txt`` or ``*.eml``, columns ``text`` and ``label``
    ===================  ======================================================================

    Paragraphs with ``context`` and ``qas`` become a row a question; see `question_rows`.

    Args:
        path: The file or folder. ``.gz`` may follow the suffix of the text formats.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The format is unknown, the file has no rows, or a row is malformed (the message
            has ``file:line``).
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f'There is no file or folder "{path}"')
    if path.is_dir():
        return read_folder(path)
    kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if kind not in _READERS:
        known = ", ".join(f".{name}" for name in _READERS)
        raise ValueError(
            f'"{path}": cannot tell its format from its suffix. Known: {known} (text formats also '
            f"with .gz).{did_you_mean(kind, _READERS)}"
        )
    examples = _READERS[kind](path)
    return question_rows(examples) if {"context", "qas"} <= set(examples.columns) else examples


def read_table(
    path: str | Path,
    *,
    delimiter: str | None = None,
    quoting: int | None = None,
    header: Sequence[str] | None = None,
) -> Examples:
    """Read a CSV or TSV file.

    The file is gone through once when it is opened: that finds malformed rows before any work is
    done, counts the rows and settles the type of each column. A column is ``int`` if *every* value
    is written as a plain integer (``7``, ``-1``, not ``007``), ``float`` if every value is a
    number, else ``str``; an empty field makes it ``str``.

    Args:
        path: The file.
        delimiter: The character between fields. Default: a tab for ``.tsv``, else a comma.
        quoting: A ``csv.QUOTE_*`` constant. Default: ``csv.QUOTE_NONE`` with a tab (a quotation
            mark is an ordinary character), else ``csv.QUOTE_MINIMAL``.
        header: Column names, for a file without a header line.

    Raises:
        ValueError: A row has more or fewer fields than the header, a quoted field has no end or
            goes on after it, or there is no row.
    """
    path = Path(path)
    if delimiter is None:
        delimiter = "\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else ","
    if quoting is None:
        quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    options: dict[str, Any] = {"delimiter": delimiter, "quoting": quoting}
    columns = list(header) if header is not None else next(_table_rows(path, options, None), [])
    if not columns or len(set(columns)) < len(columns):
        raise ValueError(f"{path}:1: the header needs names that differ; it is {columns}")

    def rows() -> Iterator[list[str]]:
        found = _table_rows(path, options, columns)
        if header is None:
            next(found)
        return found

    converters, num_rows = _column_types(rows(), len(columns))

    def factory() -> Iterator[dict[str, list[Any]]]:
        for chunk in tuple_chunks(rows(), columns):
            for name, convert in zip(columns, converters, strict=True):
                if convert is not str:
                    chunk[name] = [convert(value) for value in chunk[name]]
            yield chunk

    return _checked(factory, columns, path, num_rows, repr(options))


def read_jsonl(path: str | Path) -> Examples:
    """Read a file with a JSON object a line.

    The file is gone through once when it is opened: that finds malformed lines before any work is
    done, counts the rows and collects the columns, which are the keys of all objects. A key that
    an object lacks is None there.
    """
    path = Path(path)

    def rows() -> Iterator[tuple[int, Any]]:
        for number, line in _lines(path):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except ValueError as error:
                    raise ValueError(f"{path}:{number}: not a JSON object: {error}") from error

    columns, num_rows = all_keys(rows(), f"{path}:")
    if num_rows and not columns:
        raise ValueError(f"{path}: every object is empty; expected keys, the names of the columns")

    def factory() -> Iterator[dict[str, list[Any]]]:
        return tuple_chunks(([row.get(name) for name in columns] for _, row in rows()), columns)

    return _checked(factory, columns, path, num_rows)


def read_lines(path: str | Path) -> Examples:
    """Read a text file: each line that is not blank is a row of the column ``text``."""
    path = Path(path)

    def factory() -> Iterator[dict[str, list[Any]]]:
        lines = (line.rstrip("\r\n") for _, line in _lines(path))
        return tuple_chunks(((line,) for line in lines if line.strip()), ["text"])

    return _checked(factory, ["text"], path)


def read_folder(path: str | Path) -> Examples:
    """Read ``folder/label/*.txt`` and ``*.eml``: columns ``text`` and ``label``, the folder's name.

    The order is that of the sorted labels, then of the sorted file names. Of a mail the text is
    its subject and body (`mail_text`). Other files, and folders whose name begins with a dot, are
    left out.

    Raises:
        ValueError: There is no such file.
    """
    path = Path(path)
    files = [
        file
        for label in sorted(path.iterdir())
        if label.is_dir() and not label.name.startswith(".")
        for file in sorted(label.iterdir())
        if file.suffix.lower() in (".txt", ".eml") and file.is_file()
    ]
    if not files:
        found = ", ".join(sorted(child.name for child in path.iterdir())[:10]) or "nothing"
        raise ValueError(
            f'"{path}" has no folder/label/*.txt or *.eml; in it: {found}. '
            "Name the file itself for other formats."
        )

    def factory() -> Iterator[dict[str, list[Any]]]:
        rows = ((_file_text(file), file.parent.name) for file in files)
        return tuple_chunks(rows, ["text", "label"])

    def fingerprint() -> str:
        return combine(*(file_state(file) for file in files))

    return Examples(factory, ["text", "label"], num_rows=len(files), fingerprint=fingerprint)


_READERS: dict[str, Callable[[Path], Examples]] = {
    "jsonl": read_jsonl,
    "csv": read_table,
    "tsv": read_table,
    "txt": read_lines,
    "parquet": read_parquet,
    "json": read_squad,
}


def _checked(
    factory: Callable[[], Iterator[dict[str, list[Any]]]],
    columns: Sequence[str],
    path: Path,
    num_rows: int | None = None,
    options: str = "",
) -> Examples:
    if num_rows == 0 or (num_rows is None and next(factory(), None) is None):
        raise ValueError(f'"{path}" has no rows')
    fingerprint = combine(file_state(path), options)
    return Examples(factory, columns, num_rows=num_rows, fingerprint=fingerprint)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield numbered lines; bytes that are not UTF-8 are an error with their line."""
    number = 0
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        try:
            for number, line in enumerate(file, 1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}:{number}: not UTF-8 ({error}); convert the file") from error
        except (EOFError, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: broken gzip after line {number}: {error}") from error


def _table_rows(
    path: Path, options: Mapping[str, Any], columns: Sequence[str] | None
) -> Iterator[list[str]]:
    csv.field_size_limit(2**31 - 1)  # the default refuses texts over 128 KiB
    reader = csv.reader((line for _, line in _lines(path)), strict=True, **options)
    first = 1  # line that the row begins at
    try:
        for row in reader:
            first = reader.line_num + 1
            if columns is not None and row and len(row) != len(columns):
                raise ValueError(
                    f"{path}:{reader.line_num}: {len(row)} fields, expected {len(columns)} "
                    f"({', '.join(columns)}). Is a delimiter or line break in a field not quoted?"
                )
            if row:
                yield row
    except csv.Error as error:
        fix = (
            "A field that begins with a quotation mark must end with one, and has those in it "
            "twice. If they are ordinary characters, read with "
            "keras_finetune.data.files.read_table(path, quoting=csv.QUOTE_NONE)."
        )
        raise ValueError(
            f"{path}:{first}: the row that begins in this line is malformed: {error}."
            + (f" {fix}" if "unquoted" not in str(error) else "")
        ) from error


def _column_types(
    rows: Iterator[list[str]], num_columns: int
) -> tuple[list[Callable[[str], Any]], int]:
    kinds: list[Callable[[str], Any]] = [int] * num_columns
    num_rows = 0
    for row in rows:
        num_rows += 1
        for i, kind in enumerate(kinds):
            if kind is int and not _INTEGER.fullmatch(row[i]):
                kind = kinds[i] = float
            if kind is float and not _NUMBER.fullmatch(row[i]):
                kinds[i] = str
    return kinds, num_rows


def _file_text(path: Path) -> str:
    if path.suffix.lower() == ".eml":
        return mail_text(path.read_bytes())
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error}); convert the file") from error
