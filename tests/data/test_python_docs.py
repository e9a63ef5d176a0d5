import collections
import contextlib
import io
import os
import re

import pytest
import tensorflow_datasets as tfds

from keras_finetune.data import python_docs, read
from keras_finetune.data.docstrings import Docstring
from keras_finetune.data.python_docs import (
    LABELS,
    MAX_PASSAGES,
    SPLITS,
    PythonDocs,
    classification_rows,
    join_paragraphs,
    language_modeling_rows,
    mask_names,
    paragraphs,
    split_of,
)
from keras_finetune.data.question_answers import answer_spans

PROSE = "This text is about {} and it has quite enough words to be kept as a passage."


def module_in(split, start=0, package="numpy"):
    return next(
        name for n in range(start, 1000) if split_of(name := f"{package}.module_{n}") == split
    )


def doc(text, *, package="numpy", module=None):
    return Docstring(package, module or module_in("train", package=package), "f", text)


@pytest.fixture(scope="module")
def data_dir():
    return os.environ["TFDS_DATA_DIR"]  # That of this run, in which examples prepare them, too.


@pytest.fixture(scope="module")
def classification(data_dir):
    return {
        name: list(read("python_docs/classification", name, data_dir=data_dir)) for name in SPLITS
    }


@pytest.fixture(scope="module")
def language_modeling(data_dir):
    return {
        name: list(read("python_docs/language_modeling", name, data_dir=data_dir))
        for name in SPLITS
    }


@pytest.fixture(scope="module")
def summarization(data_dir):
    return {
        name: list(read("python_docs/summarization", name, data_dir=data_dir)) for name in SPLITS
    }


@pytest.fixture(scope="module")
def question_answering(data_dir):
    return {
        name: list(read("python_docs/question_answering", name, data_dir=data_dir))
        for name in SPLITS
    }


@pytest.fixture
def tiny_packages(tmp_path, monkeypatch):
    for package, letter in zip(LABELS, "abcde", strict=True):
        for n in range(30):
            path = tmp_path / "packages" / package / f"module_{n}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            text = PROSE.format(f"{package} and {letter * (n + 1)}")
            args = f"Args:\n        x: Number {n} of {package}.\n"
            path.write_text(
                f'def f():\n    """Do it.\n\n    {text}\n\n    {args}\n    >>> f()\n    """\n'
            )
    monkeypatch.setattr(python_docs, "package_folder", lambda name: tmp_path / "packages" / name)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("NumPy arrays, not TensorFlow's", "PACKAGE arrays, not PACKAGE's"),
        ("np.sum, `tf.nn.relu`, tfds.load", "PACKAGE.sum, `PACKAGE.nn.relu`, PACKAGE.load"),
        ("tf.keras.layers and tensorflow.python.ops", "PACKAGE.layers and PACKAGE.ops"),
        ("tensorflow_datasets, TensorFlow Datasets", "PACKAGE, PACKAGE"),
        ("TF_CONFIG and tf2", "PACKAGE_CONFIG and PACKAGE2"),
        ("Input of the tfrecord, notepad", "Input of the tfrecord, notepad"),
    ],
)
def test_mask_names(text, masked):
    assert mask_names(text) == masked


def test_paragraphs_are_prose_on_one_line():
    docstring = f"""Short line.

    {PROSE.format("one")}
      {PROSE.format("two")}

    Notes
    -----
    {PROSE.format("numpy")}

    >>> this_is_code("that has many words but is to be left out of it all")

    ```
    {PROSE.format("code")}

    {PROSE.format("more code")}
    ```

    x = [1, 2, 3]; y = {{'a': 1, 'b': 2}}; z = x[0] + y['a'] * (3 - 4) / 5 ** 6

    {"long " * 170}

    {PROSE.format("the end")}"""
    assert list(paragraphs(docstring)) == [
        PROSE.format("one") + " " + PROSE.format("two"),
        "Notes " + PROSE.format("PACKAGE"),
        PROSE.format("the end"),
    ]


def test_join_paragraphs_keeps_within_the_limits():
    sizes = [200, 150, 100, 790, 300, 600, 50]
    joined = list(join_paragraphs("x" * size for size in sizes))
    assert [len(text) for text in joined] == [452, 790, 300, 600, 50]


def test_rows_of_classification():
    rows = list(
        classification_rows(
            [doc(PROSE.format("arrays")), doc(PROSE.format("layers"), package="keras")]
        )
    )
    assert rows == [
        {
            "text": PROSE.format("layers"),
            "label": "keras",
            "module": module_in("train", package="keras"),
        },
        {"text": PROSE.format("arrays"), "label": "numpy", "module": module_in("train")},
    ]


def test_a_paragraph_is_used_once():
    shared, own = PROSE.format("shared"), PROSE.format("own")
    rows = list(classification_rows([doc(shared), doc(f"{shared}\n\n{own}"), doc(shared)]))
    assert sorted(row["text"] for row in rows) == sorted([shared, own])


@pytest.mark.parametrize("make_rows", [classification_rows, language_modeling_rows])
def test_text_of_two_packages_or_two_splits_is_left_out(make_rows):
    text, own = PROSE.format("shared " * 10), PROSE.format("own " * 10)
    other_package = [doc(text), doc(text, package="keras"), doc(own)]
    other_split = [doc(text), doc(text, module=module_in("test")), doc(own)]
    same_split = [doc(text), doc(text.replace(" ", "\n"), module=module_in("train", 50))]
    for docstrings in (other_package, other_split):
        assert [" ".join(row["text"].split()) for row in make_rows(docstrings)] == [
            " ".join(own.split())
        ]
    assert len(list(make_rows(same_split))) == 1


def test_joined_paragraphs_that_are_one_elsewhere_do_not_cross_splits():
    first, second = PROSE.format("one"), PROSE.format("two")
    docstrings = [
        doc(f"{first}\n\n{second}"),
        doc(f"{first}\n{second}", module=module_in("test")),
    ]
    assert list(classification_rows(docstrings)) == []


def test_large_classes_are_capped_whatever_the_order(monkeypatch):
    monkeypatch.setattr(python_docs, "MAX_PASSAGES", 5)
    docstrings = [doc(PROSE.format("x" * n)) for n in range(1, 21)]
    docstrings += [doc(PROSE.format("keras" + "y" * n), package="keras") for n in range(1, 4)]
    rows = list(classification_rows(docstrings))
    assert collections.Counter(row["label"] for row in rows) == {"numpy": 5, "keras": 3}
    assert list(classification_rows(reversed(docstrings))) == rows


def test_rows_of_language_modeling_keep_the_lines():
    text = PROSE.format("numpy") + "\n\n    >>> np.sum(x)\n" + PROSE.format("more")
    assert list(language_modeling_rows([doc(text), doc("Too short.")])) == [
        {"text": text, "module": module_in("train")}
    ]


def test_an_upgrade_gives_another_version(monkeypatch):
    before = python_docs._data_version()
    assert re.fullmatch(r"1\.0\.\d+", before)
    assert str(PythonDocs.VERSION) == before
    assert python_docs._data_version() == before
    installed = python_docs._installed_version
    monkeypatch.setattr(
        python_docs, "_installed_version", lambda name: installed(name) + ".1" * (name == "keras")
    )
    assert python_docs._data_version() != before


def test_the_version_of_a_variant_of_a_package(monkeypatch):
    def version(name):
        if name == "tensorflow-cpu":
            return "2.21.0"
        raise python_docs.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(python_docs.importlib.metadata, "version", version)
    assert python_docs._installed_version("tensorflow") == "2.21.0"
    assert python_docs._installed_version("keras") == "unknown"
    assert python_docs._installed_version("python").startswith("3.")


@pytest.mark.usefixtures("tiny_packages")
@pytest.mark.parametrize("config", ["classification", "language_modeling", "question_answering"])
def test_preparing_twice_gives_the_same_rows_in_the_same_order(config, tmp_path):
    first, second = (
        [list(read(f"python_docs/{config}", name, data_dir=tmp_path / run)) for name in SPLITS]
        for run in ("first", "second")
    )
    assert first == second
    assert sum(map(len, first)) == 150
    assert all(first)


@pytest.mark.slow
def test_tfds_load_knows_it(classification, data_dir):
    dataset, info = tfds.load(
        "python_docs/classification", split="train", data_dir=str(data_dir), with_info=True
    )
    assert info.features["label"].names == list(LABELS)
    assert set(info.splits) == set(SPLITS)
    row = next(iter(tfds.as_numpy(dataset)))
    assert row["text"].decode() in {row["text"] for row in classification["train"]}


@pytest.mark.slow
def test_classes_are_many_and_balanced(classification):
    counts = {
        name: collections.Counter(row["label"] for row in rows)
        for name, rows in classification.items()
    }
    total = sum(counts.values(), collections.Counter())
    assert total.total() >= 8_000
    assert all(set(per_split) == set(range(len(LABELS))) for per_split in counts.values())
    assert max(total.values()) <= MAX_PASSAGES
    assert min(total.values()) >= 1_000
    assert 0.7 < counts["train"].total() / total.total() < 0.9
    assert all(counts[name].total() >= 500 for name in ("validation", "test"))


@pytest.mark.slow
def test_passages_are_normalised_and_masked(classification):
    for rows in classification.values():
        for row in rows:
            assert row["text"] == " ".join(row["text"].split())
            assert 40 <= len(row["text"]) <= 800
            assert ">>>" not in row["text"]
            assert not re.search(
                r"tensorflow|keras|numpy|tfds|python|\b(tf|np)\b", row["text"], re.I
            )


@pytest.mark.slow
def test_labels_are_the_packages_of_the_modules(classification):
    for row in classification["test"]:
        package = row["module"].split(".")[0]
        assert LABELS[row["label"]] == (package if package in LABELS else "python")


@pytest.mark.slow
@pytest.mark.parametrize("config", ["classification", "language_modeling"])
def test_no_text_and_no_module_is_in_two_splits(config, request):
    rows = request.getfixturevalue(config)
    texts = [" ".join(row["text"].split()) for name in SPLITS for row in rows[name]]
    assert len(set(texts)) == len(texts)
    modules = [{row["module"] for row in rows[name]} for name in SPLITS]
    assert len(set().union(*modules)) == sum(map(len, modules))


@pytest.mark.slow
def test_text_to_pretrain_on_holds_no_test_module(classification, language_modeling):
    seen = {row["module"] for row in language_modeling["train"]}
    for name in ("validation", "test"):
        assert seen.isdisjoint(row["module"] for row in classification[name])
    assert len(language_modeling["train"]) > 5_000
    assert sum(len(row["text"]) for row in language_modeling["train"]) > 3_000_000


@pytest.mark.slow
def test_reading_again_prints_nothing(classification, data_dir):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        read("python_docs/classification", "test", data_dir=data_dir)
    assert out.getvalue() + err.getvalue() == ""


@pytest.mark.slow
def test_summaries_are_many_and_of_no_module_in_two_splits(summarization):
    rows = [row for name in SPLITS for row in summarization[name]]
    assert len(rows) > 4_000
    for column in ("document", "summary"):
        assert len({row[column].lower() for row in rows}) == len(rows)
    assert all(row["summary"].rstrip(".") not in row["document"] for row in rows)
    assert all(150 <= len(row["document"]) <= 2_000 for row in rows)
    for name in SPLITS:
        assert {split_of(row["module"]) for row in summarization[name]} == {name}
        assert len(summarization[name]) > 300


def test_translations_of_an_installed_django(tmp_path):
    pytest.importorskip("django")
    rows = {
        name: list(read("python_docs/translation_en_zh", name, data_dir=tmp_path))
        for name in SPLITS
    }
    texts = [row["en"] for name in SPLITS for row in rows[name]]
    assert len({text.casefold() for text in texts}) == len(texts) > 400
    assert all(split_of(row["en"]) == name for name in SPLITS for row in rows[name])
    assert all(re.search("[\u4e00-\u9fff]", row["zh"]) for name in SPLITS for row in rows[name])
    installed = python_docs._installed_version("django")
    builder = PythonDocs(config="translation_en_zh", data_dir=str(tmp_path))
    assert str(builder.version) == python_docs._data_version(["django"])
    assert installed != "unknown"


def test_without_django_the_error_says_what_to_install(tmp_path, monkeypatch):
    def missing(package):
        raise ValueError(package)

    monkeypatch.setattr(python_docs, "package_folder", missing)
    with pytest.raises(ImportError, match=r"keras_finetune\[examples\].*pip install django"):
        read("python_docs/translation_en_zh", "train", data_dir=tmp_path)


@pytest.mark.slow
def test_questions_are_many_and_their_answers_stand_where_they_say(question_answering):
    counts = {name: len(rows) for name, rows in question_answering.items()}
    assert counts["train"] > 5_000
    assert min(counts.values()) > 500
    seen = set()
    for rows in question_answering.values():
        for row in rows:
            spans = answer_spans(row["answers"], row["context"], row["id"])
            texts = row["answers"]["text"]
            assert [row["context"][start:end] for start, end in spans] == texts
            assert seen.isdisjoint(texts)
            seen.update(texts)
            assert len(row["context"]) <= 1_500
    modules = [{row["module"] for row in rows} for rows in question_answering.values()]
    assert len(set().union(*modules)) == sum(map(len, modules))
