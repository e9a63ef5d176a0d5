import gzip
import json
import os
from pathlib import Path

import pytest

from keras_finetune.data import Examples, load, read
from keras_finetune.data.question_answers import AnswerSpan, answer_spans, question_rows

DATA = os.environ.get("KERAS_FINETUNE_TEST_DATA")
CONTEXT = "The Nile is long. The Nile is in Africa."


def question(number, *answers, **more):
    pairs = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": number, "question": f"Question {number}?", "answers": pairs, **more}


QUESTIONS = [question("a", ("Africa", 33), ("in Africa", 30)), question("b", ("long", 12))]


def test_a_row_a_question():
    paragraphs = Examples.from_columns({"context": [CONTEXT, "Other."], "qas": [QUESTIONS, []]})
    rows = question_rows(paragraphs)
    assert len(rows) == 2
    assert next(iter(rows)) == {
        "id": "a",
        "title": "",
        "context": CONTEXT,
        "question": "Question a?",
        "answers": {"text": ["Africa", "in Africa"], "answer_start": [33, 30]},
    }
    other = Examples.from_columns({"context": [CONTEXT], "qas": [QUESTIONS[:1]]})
    assert rows.fingerprint != question_rows(other).fingerprint


@pytest.mark.parametrize("suffix", ["json", "json.gz", "jsonl"])
def test_files(tmp_path, suffix):
    impossible = question("c", ("long", 12), is_impossible=True, plausible_answers=[])
    paragraph = {"context": CONTEXT, "qas": [*QUESTIONS, impossible]}
    nested = {"version": "v2.0", "data": [{"title": "Nile", "paragraphs": [paragraph]}]}
    content = json.dumps({"title": "Nile", **paragraph} if suffix == "jsonl" else nested).encode()
    path = tmp_path / f"questions.{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    rows = read(path)
    assert rows.columns == ("id", "title", "context", "question", "answers", "is_impossible")
    assert rows.column("title") == ["Nile"] * 3
    assert rows.column("is_impossible") == [None, None, True]
    assert rows.column("answers")[2] == {"text": [], "answer_start": []}


def test_a_folder_of_splits(tmp_path):
    nested = {"data": [{"paragraphs": [{"context": CONTEXT, "qas": QUESTIONS}]}]}
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.json").write_text(json.dumps(nested))
    assert [len(part) for part in load(tmp_path)] == [2, 2, 2]


@pytest.mark.skipif(not DATA, reason="KERAS_FINETUNE_TEST_DATA is not set")
def test_squad():
    folder = Path(DATA or "") / "extractive_qa" / "squad_v1.1_dev"
    rows = read(folder, "test")
    assert len(rows) == 2_000
    for number, row in enumerate(rows.head(300)):
        spans = answer_spans(row["answers"], row["context"], f"Row {number}")
        stripped = [text.strip() for text in row["answers"]["text"]]
        assert [row["context"][start:end] for start, end in spans] == stripped


@pytest.mark.parametrize(
    "answers",
    [
        {"text": ["Africa"], "answer_start": [33]},
        {"text": "Africa", "answer_start": 33},
        [{"text": "Africa", "answer_start": 33}],
        {"text": [" Africa"], "answer_start": [32]},
    ],
)
def test_forms_of_answers(answers):
    assert answer_spans(answers, CONTEXT, "Row 0") == [AnswerSpan(33, 39)]


@pytest.mark.parametrize("answers", [None, [], {"text": [], "answer_start": []}])
def test_no_answer(answers):
    assert answer_spans(answers, CONTEXT, "Row 0") == []


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"text": "Africa", "answer_start": 34}, "occurs once, at 33: set answer_start=33"),
        ({"text": "Africa", "answer_start": -6}, "occurs once, at 33"),
        ({"text": "The Nile", "answer_start": 1}, "occurs at 0, 18: set answer_start to the one"),
        ({"text": "the nile", "answer_start": 0}, "At 0 there is 'The Nile': write the answer"),
        ({"text": "Asia", "answer_start": 33}, "not at answer_start=33, where there is 'Afri'"),
        ({"text": " ", "answer_start": 3}, "an answer is ' '"),
        ({"text": ["a", "b"], "answer_start": [0]}, "2 answer texts and 1 answer_starts"),
        ({"texts": ["a"]}, "answers have no 'text'"),
        ("Africa", "answers are 'Africa'; expected"),
        ({"text": "Africa", "answer_start": "33"}, "expected a text and a whole number"),
        ({"text": [None], "answer_start": [0]}, "the text None"),
    ],
)
def test_bad_answers(answers, message):
    with pytest.raises(ValueError, match="Row 7: .*" + message):
        answer_spans(answers, CONTEXT, "Row 7")


@pytest.mark.parametrize(
    ("questions", "message"),
    [("what?", 'Paragraph 1: "qas" is \'what'), ([{"id": 1}], "Paragraph 1: a question is")],
)
def test_bad_paragraphs(questions, message):
    paragraphs = Examples.from_columns({"context": ["", CONTEXT], "qas": [[], questions]})
    with pytest.raises(ValueError, match=message):
        question_rows(paragraphs)
