import itertools
import random
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_finetune.data.examples import Examples
from keras_finetune.data.sources import load, read

ROWS = [{"text": f"text {n}", "label": n % 2} for n in range(20)]


def csv_file(path: Path, count: int, start: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "text,label\n" + "".join(f"t{n},{n % 2}\n" for n in range(start, start + count))
    )
    return path


class Frame:
    """Has what a pandas data frame has, as far as it is used."""

    columns = ("text", "label")
    iloc = None

    def __getitem__(self, name: str) -> np.ndarray:
        return np.array([row[name] for row in ROWS], dtype=object)


@pytest.mark.parametrize(
    "source",
    [
        ROWS,
        tuple(ROWS),
        {"text": [row["text"] for row in ROWS], "label": np.arange(20) % 2},
        Frame(),
        lambda: iter(ROWS),
        Examples.from_columns({name: [row[name] for row in ROWS] for name in ("text", "label")}),
        tf.data.Dataset.from_tensor_slices(
            {"text": [row["text"] for row in ROWS], "label": np.arange(20) % 2}
        ),
    ],
    ids=["list", "tuple", "arrays", "frame", "callable", "examples", "tf.data"],
)
def test_all_kinds_of_sources_give_the_same_rows(source: object) -> None:
    examples = read(source)
    assert [{name: row[name] for name in ("text", "label")} for row in examples] == ROWS
    assert list(examples) == list(examples)
    assert len(examples) == 20


def test_a_generator_is_held() -> None:
    examples = read(row for row in ROWS)
    assert list(examples) == list(examples) == ROWS


def test_keys_that_some_rows_lack() -> None:
    assert list(read([{"a": 1}, {"b": 2}])) == [{"a": 1, "b": None}, {"a": None, "b": 2}]
    with pytest.raises(ValueError, match="Row 1: this row has no a"):
        list(read(lambda: [{"a": 1}, {"b": 2}]))


def test_a_path_as_string_or_path(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "mails.csv", 3)
    assert list(read(path)) == list(read(str(path)))
    assert read(path).column("label") == [0, 1, 0]


def test_columns_are_picked_and_renamed() -> None:
    assert read(ROWS, columns=["label"]).columns == ("label",)
    assert read(ROWS, columns={"text": "body", "label": "y"}).columns == ("body", "y")
    with pytest.raises(ValueError, match=r'no column "labels".*Did you mean "label"'):
        read(ROWS, columns=["labels"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "no rows"),
        ({"text": [], "label": []}, "no rows"),
        (list, "no rows"),
        (["a", "b"], "Row 0: expected a mapping"),
        ([{"text": "a"}, "b"], "Row 1: expected a mapping .* got str 'b'"),
        (lambda: ["a"], "Row 0 is 'a'; expected a dict"),
        ([{}], "no column"),
        (lambda: [{}], "Row 0 is {}"),
        (5, "got int"),
        (b"bytes", "got bytes"),
        ({"text": ["a"], "label": [1, 2]}, "differ in length"),
        (tf.data.Dataset.from_tensor_slices([1, 2]), "Dataset of dicts"),
        ("no/such/file.csv", 'file.csv" is neither a file'),
    ],
)
def test_bad_sources(source: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(source)


@pytest.mark.parametrize("kind", ["callable", "tf.data"])
def test_streams_in_another_order_each_time_are_refused(kind: str) -> None:
    draw = random.Random(0)
    source: object = lambda: iter(draw.sample(ROWS, 20))  # noqa: E731
    if kind == "tf.data":
        source = tf.data.Dataset.from_tensor_slices({"n": list(range(100))}).shuffle(100)
    with pytest.raises(ValueError, match="another order"):
        read(source)


def test_missing_path_object(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.csv")


def test_load_carves_what_is_missing() -> None:
    parts = load(ROWS, validation=0.2, test=3)
    assert [len(part) for part in parts] == [13, 4, 3]
    texts = itertools.chain.from_iterable(part.column("text") for part in parts)
    assert sorted(texts) == sorted(row["text"] for row in ROWS)
    again = load(ROWS, validation=0.2, test=3)
    assert [part.fingerprint for part in parts] == [part.fingerprint for part in again]
    other = load(ROWS, validation=0.2, test=3, seed=1)
    assert other.test.column("text") != parts.test.column("text")


def test_load_uses_the_splits_there_are(tmp_path: Path) -> None:
    train = csv_file(tmp_path / "a.csv", 20)
    test = csv_file(tmp_path / "b.csv", 4, start=100)
    parts = load({"train": train, "test": test})
    assert [len(part) for part in parts] == [18, 2, 4]
    assert parts.test.column("text") == ["t100", "t101", "t102", "t103"]
    parts = load({"train": train, "dev": test, "test": test}, columns=["text"])
    assert len(parts.train) == 20
    assert parts.train.fingerprint == read(train, columns=["text"]).fingerprint
    assert parts.validation.columns == ("text",)


def test_load_with_size_zero() -> None:
    parts = load(ROWS, validation=0, test=0.5)
    assert [len(part) for part in parts] == [10, 0, 10]
    assert list(parts.validation) == []


def test_a_folder_with_a_file_a_split(tmp_path: Path) -> None:
    csv_file(tmp_path / "train.csv", 10)
    csv_file(tmp_path / "dev.csv", 4)
    (tmp_path / "labels.txt").write_text("no\nyes\n")
    assert len(read(tmp_path, "validation")) == len(read(tmp_path, "dev")) == 4
    assert [len(part) for part in load(tmp_path, test=3)] == [7, 4, 3]
    with pytest.raises(ValueError, match=r"splits validation, train: choose one"):
        read(tmp_path)
    with pytest.raises(ValueError, match=r'no split "trian"\. .* Did you mean "train"'):
        read(tmp_path, "trian")
    csv_file(tmp_path / "train.tsv", 10)
    with pytest.raises(ValueError, match=r"two train sets: train\.csv, train\.tsv"):
        read(tmp_path, "train")


def test_a_folder_as_the_hugging_face_hub_has_it(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def write(name: str, rows: list) -> None:
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / f"{name}.parquet")

    write("train-00000-of-00002", ROWS[:12])
    write("train-00001-of-00002", ROWS[12:])
    write("test-00000-of-00001", ROWS[:3])
    train = read(tmp_path, "train")
    assert (len(train), list(train), len(read(tmp_path, "test"))) == (20, ROWS, 3)
    before = train.fingerprint
    write("train-00001-of-00002", ROWS[11:])
    assert read(tmp_path, "train").fingerprint != before
    write("train-00001-of-00002", [{"text": "a"}])
    with pytest.raises(ValueError, match=r"00001-of-00002\.parquet: the columns .* they are text"):
        read(tmp_path, "train")
    (tmp_path / "train-00000-of-00002.parquet").unlink()
    with pytest.raises(ValueError, match=r"not train-00000-of-00002\.parquet \(1 of 2"):
        read(tmp_path, "train")
    write("train-00000-of-00002", ROWS)
    write("train", ROWS)
    with pytest.raises(ValueError, match=r"two train sets: train-00000-of-00002\.parquet, train\."):
        read(tmp_path, "train")


def test_a_folder_with_a_folder_a_split(tmp_path: Path) -> None:
    for name in ("train/pos/1", "train/neg/2", "train/neg/3", "test/pos/4"):
        path = tmp_path / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    assert read(tmp_path, "train").column("label") == ["neg", "neg", "pos"]
    assert read(tmp_path, "test").column("text") == ["test/pos/4"]


def test_a_folder_a_class_where_a_class_is_called_test(tmp_path: Path) -> None:
    for name in ("test", "spam"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.txt").write_text("x")
    assert read(tmp_path).column("label") == ["spam", "test"]


def test_split_of_a_source_without_splits() -> None:
    with pytest.raises(ValueError, match='split="test": this source is one set'):
        read(ROWS, "test")


def test_load_needs_train(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "b.csv", 4)
    with pytest.raises(ValueError, match="split named train; this source has test"):
        load({"test": path})


def test_an_empty_given_split(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no rows"):
        load({"train": ROWS, "test": []})


def test_an_empty_text_is_no_folder(tmp_path, monkeypatch):
    csv_file(tmp_path / "train.csv", 4)
    monkeypatch.chdir(tmp_path)
    assert len(load(".").train) > 0
    for opened in (load, read):
        with pytest.raises(ValueError, match="The source is an empty text"):
            opened("")
