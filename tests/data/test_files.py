import csv
import gzip
import json
import os
import sys
import time
from email.message import EmailMessage
from pathlib import Path

import pytest

from keras_finetune.data import read
from keras_finetune.data.files import read_file, read_table

ROWS = [{"text": 'He said "no"', "label": 1}, {"text": "是的\n", "label": 0}]


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_jsonl(tmp_path: Path, suffix: str, encoding: str) -> None:
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n\n"
    examples = read_file(write(tmp_path / f"a.jsonl{suffix}", text, encoding))
    assert examples.columns == ("text", "label")
    assert list(examples) == ROWS
    assert len(examples) == 2


def test_jsonl_with_keys_that_some_rows_lack(tmp_path: Path) -> None:
    examples = read_file(write(tmp_path / "a.jsonl", '{"a": 1}\n{"b": 2, "a": 3}\n{}\n'))
    assert list(examples) == [{"a": 1, "b": None}, {"a": 3, "b": 2}, {"a": None, "b": None}]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_csv_with_quotes_and_line_breaks(tmp_path: Path, suffix: str) -> None:
    text = '\ufefftext,label\r\n"He said ""no""",1\r\n"是的\n",0\r\n'
    examples = read_file(write(tmp_path / f"a.csv{suffix}", text))
    assert list(examples) == ROWS


@pytest.mark.parametrize("name", ["A.CSV", "A.Csv.GZ", "A.TSV"])
def test_suffixes_in_capitals(tmp_path: Path, name: str) -> None:
    text = "text,label\nyes,1\n".replace(",", "\t" if "TSV" in name else ",")
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("GZ") else text.encode())
    assert list(read_file(path)) == [{"text": "yes", "label": 1}]
    assert read(path.rename(tmp_path / f"TRAIN{name[1:]}").parent, "train").column("label") == [1]


def test_tsv_takes_quotation_marks_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'label\ttext\n1\t"half a quote\n0\t5" disk\n')
    assert read_file(path).column("text") == ['"half a quote', '5" disk']
    quoted = write(tmp_path / "b.tsv", 'label\ttext\n1\t"a\tb"\n')
    assert read_table(quoted, quoting=csv.QUOTE_MINIMAL).column("text") == ["a\tb"]


def test_header_given(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "ham\tHi\nspam\tWin!\n")
    examples = read_table(path, header=["label", "text"])
    assert next(iter(examples)) == {"label": "ham", "text": "Hi"}
    assert len(examples) == 2


def test_column_types_hold_for_the_whole_column(tmp_path: Path) -> None:
    text = "int,float,id,late,empty,big\n1,1,007,3,1,12345678901234567890\n-2,0.5,8,x,,2\n"
    rows = list(read_file(write(tmp_path / "a.csv", text)))
    assert rows[0] == {
        "int": 1,
        "float": 1.0,
        "id": "007",
        "late": "3",
        "empty": "1",
        "big": "12345678901234567890",
    }
    assert rows[1]["int"] == -2
    assert rows[1]["float"] == 0.5
    assert type(rows[0]["float"]) is float


def test_long_fields(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", f"text\n{'x' * 300_000}\n")
    assert len(read_file(path).column("text")[0]) == 300_000


def test_text_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt.gz", "One.\n\n  \nTwo\u2028half.\r\n")
    assert read_file(path).column("text") == ["One.", "Two\u2028half."]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"a": 1}\n\n{"a": \n', r"a\.jsonl:3: not a JSON object"),
        ("a.jsonl", '{"a": 1}\n[1]\n', r"a\.jsonl:2: expected a mapping"),
        ("a.jsonl", "[1]\n", r"a\.jsonl:1: expected a mapping"),
        ("a.jsonl", "\n", "no rows"),
        ("a.jsonl", "{}\n{}\n", r"a\.jsonl: every object is empty"),
        ("a.csv", "a,b\n1,2\n3\n", r"a\.csv:3: 1 fields, expected 2 \(a, b\)"),
        ("a.csv", 'a,b\n"1\n2",3\n4,5,6\n', r"a\.csv:4: 3 fields, expected 2"),
        ("a.csv", 'a,b\n0,"1\n2"\n0,"x\n1,y\n', r"a\.csv:4: .* unexpected end .* end with"),
        ("a.csv", 'a,b\n\n0,"x\n1,y\n0,"z"\n', r"a\.csv:3: .* expected after .*QUOTE_NONE"),
        ("a.csv", 'a,b\n0,"x"y\n', r"a\.csv:2: .* expected after"),
        ("a.csv", 'a,"b\n1,2\n', r"a\.csv:1: .* unexpected end"),
        ("a.csv", "a,b\n1,2\n3,4\r5\n", r"a\.csv:3: .* unquoted field"),
        ("a.csv", "a,a\n1,2\n", r"names that differ; it is \['a', 'a'\]"),
        ("a.csv", "", "names that differ"),
        ("a.csv", "a,b\n", "no rows"),
        ("a.txt", "\n\n", "no rows"),
        ("a.tsv", "a\tb\n1\t2\t3\n", r"a\.tsv:2: 3 fields"),
        ("a.json", "{}", r"a\.json: expected SQuAD's"),
        ("a.json", "{", r"a\.json: not JSON"),
        ("a.json", '{"data": [{"title": "x"}]}', r"data\[0\] has no list"),
        ("a.jsonlines", "{}", r"Known: \.jsonl, .*Did you mean \"jsonl\""),
        ("a", "x", "cannot tell its format"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(ValueError, match=message):
        list(read_file(path))


def test_wrong_encoding_names_the_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text\nplain\nnaïve\n", "latin-1")
    with pytest.raises(ValueError, match=r"a\.csv:3: not UTF-8"):
        read_file(path)


def test_truncated_gzip(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    whole = gzip.compress(b"".join(b'{"n": %d}\n' % (n * n) for n in range(5000)))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="broken gzip after line"):
        list(read_file(path))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        read_file(tmp_path / "nowhere.csv")


def test_folder_a_class(tmp_path: Path) -> None:
    mail = EmailMessage()
    mail["Subject"] = "Win"
    mail.set_content("a prize")
    for name, data in {
        "spam/2.eml": mail.as_bytes(),
        "spam/1.txt": b"\xef\xbb\xbfbuy",
        "ham/a.txt": b"hello",
        "ham/notes.md": b"not this",
        ".hidden/x.txt": b"nor this",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    examples = read_file(tmp_path)
    assert list(examples) == [
        {"text": "hello", "label": "ham"},
        {"text": "buy", "label": "spam"},
        {"text": "Win\n\na prize", "label": "spam"},
    ]
    assert len(examples) == 3
    before = examples.fingerprint
    (tmp_path / "ham/a.txt").write_bytes(b"hello again")
    assert read_file(tmp_path).fingerprint != before


def test_folder_without_classes(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a\n1\n")
    with pytest.raises(ValueError, match=r"in it: train\.csv"):
        read_file(tmp_path)


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    features = {"info": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}
    table = pyarrow.Table.from_pylist(ROWS * 1500)
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    parquet.write_table(table, tmp_path / "a.parquet")
    examples = read_file(tmp_path / "a.parquet")
    assert len(examples) == 3000
    assert list(examples) == ROWS * 1500
    assert examples.label_names() == ["no", "yes"]


def test_parquet_with_two_columns_of_one_name(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.Table.from_arrays([pyarrow.array([1]), pyarrow.array([2])], ["a", "a"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(
        ValueError, match=r"a\.parquet: .* names that differ; they are \['a', 'a'\]"
    ):
        read_file(tmp_path / "a.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"text,label\n" * 9])
def test_a_broken_parquet_file(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("pyarrow.parquet")
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"a\.parquet: no whole Parquet file \(.*\)\. Copy it again"
    ):
        read_file(tmp_path / "a.parquet")


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        read_file(tmp_path / "a.parquet")


def test_fingerprint_follows_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a\n1\n")
    before = read_file(path).fingerprint
    assert read_file(path).fingerprint == before
    write(path, "a\n1\n2\n")
    assert read_file(path).fingerprint != before


def test_other_content_of_the_same_size_and_time_is_seen(tmp_path):
    """As of tools that set the time of what they write, and of a file that another replaces."""
    path = tmp_path / "data.csv"
    path.write_text("text,label\na,x\n")
    before, found = path.stat(), read_table(path).fingerprint
    for write in (path.write_text, lambda text: _replace(path, text)):
        time.sleep(0.02)  # Some systems' clocks for files are that coarse.
        write("text,label\na,y\n")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert read_table(path).fingerprint != found
        found = read_table(path).fingerprint
    assert read_table(path).fingerprint == found


def _replace(path, text):
    other = path.with_name("other")
    other.write_text(text)
    other.rename(path)
