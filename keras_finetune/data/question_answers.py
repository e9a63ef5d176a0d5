"""Questions about a text, and where in it their answers stand: SQuAD's formats."""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_finetune.data.examples import Chunk, Examples
from keras_finetune.data.fingerprint import combine
from keras_finetune.data.rows import tuple_chunks

_QUESTION_COLUMNS = ("id", "title", "context", "question", "answers")
# The wrong answers that SQuAD 2.0 gives to questions without one are for other uses.
_LEFT_OUT = {"plausible_answers"}


class AnswerSpan(NamedTuple):
    """Where in a text an answer stands: its first character, and the one after its last."""

    start: int
    end: int


def read_squad(path: str | Path) -> Examples:
    """Read SQuAD's nested JSON: ``{"data": [{"title", "paragraphs": [{"context", "qas"}]}]}``.

    It is read into memory. ``.gz`` may follow the suffix.

    Args:
        path: The file.

    Returns:
        A row a paragraph, with ``title``, ``context`` and ``qas``.

    Raises:
        ValueError: The file is not of that format.
    """
    path = Path(path)
    data = path.read_bytes()
    try:
        document = json.loads(gzip.decompress(data) if path.name.lower().endswith(".gz") else data)
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    articles = document.get("data") if isinstance(document, Mapping) else None
    if not isinstance(articles, list):
        raise ValueError(
            f'{path}: expected SQuAD\'s {{"data": [{{"paragraphs": [{{"context", "qas"}}]}}]}}. '
            "Write other rows as .jsonl, a JSON object a line."
        )
    columns: dict[str, list[Any]] = {"title": [], "context": [], "qas": []}
    for number, article in enumerate(articles):
        paragraphs = article.get("paragraphs") if isinstance(article, Mapping) else None
        if not isinstance(paragraphs, list) or not all(
            isinstance(paragraph, Mapping) and {"context", "qas"} <= paragraph.keys()
            for paragraph in paragraphs
        ):
            raise ValueError(
                f'{path}: data[{number}] has no list "paragraphs" of {{"context", "qas"}}. '
                f"Received: {article!r:.80}"
            )
        for paragraph in paragraphs:
            columns["title"].append(article.get("title", ""))
            columns["context"].append(paragraph["context"])
            columns["qas"].append(paragraph["qas"])
    return Examples.from_columns(columns)


def question_rows(paragraphs: Examples) -> Examples:
    """Turn a row a paragraph into a row a question, with the columns of TFDS's ``squad``.

    Args:
        paragraphs: Rows with ``context``, ``qas`` (a list of ``{"id", "question", "answers"}``)
            and, if there is one, ``title``. What else a question has becomes a column, too.

    Returns:
        Rows with ``id``, ``title``, ``context``, ``question`` and ``answers``, which is
        ``{"text": [...], "answer_start": [...]}``; both empty where there is no answer.

    Raises:
        ValueError: A paragraph's questions are of another form; names the paragraph.

    Example:
        >>> question = {"id": "7", "question": "What falls?",
        ...             "answers": [{"text": "Rain", "answer_start": 0}]}
        >>> rows = question_rows(Examples.from_columns(
        ...     {"context": ["Rain falls."], "qas": [[question]]}))
        >>> rows.column("answers")
        [{'text': ['Rain'], 'answer_start': [0]}]
    """
    more: dict[str, None] = {}
    count = 0
    for question in _questions(paragraphs):
        more.update(dict.fromkeys(question.keys() - {*_QUESTION_COLUMNS, *_LEFT_OUT}))
        count += 1
    columns = (*_QUESTION_COLUMNS, *sorted(more))

    def factory() -> Iterator[Chunk]:
        rows = ([row.get(name) for name in columns] for row in _questions(paragraphs))
        return tuple_chunks(rows, columns)

    return Examples(
        factory,
        columns,
        num_rows=count,
        fingerprint=lambda: combine(paragraphs.fingerprint, "questions"),
    )


def _questions(paragraphs: Examples) -> Iterator[dict[str, Any]]:
    for number, paragraph in enumerate(paragraphs):
        questions = paragraph["qas"]
        if not isinstance(questions, Sequence) or isinstance(questions, str):
            raise ValueError(
                f'Paragraph {number}: "qas" is {questions!r:.60}; expected a list of questions.'
            )
        for question in questions:
            if not isinstance(question, Mapping) or "question" not in question:
                raise ValueError(
                    f'Paragraph {number}: a question is {question!r:.60}; expected {{"id": ..., '
                    '"question": ..., "answers": [{"text": ..., "answer_start": ...}]}.'
                )
            impossible = question.get("is_impossible") is True
            answers = () if impossible else _pairs(question.get("answers"), f"Paragraph {number}")
            yield {
                **question,
                "id": str(question.get("id", "")),
                "title": paragraph.get("title") or "",
                "context": paragraph["context"],
                "answers": {
                    "text": [text for text, _ in answers],
                    "answer_start": [start for _, start in answers],
                },
            }


def answer_spans(answers: Any, context: str, where: str) -> list[AnswerSpan]:
    """Find the answers to a question in its text, and check that they stand there.

    White space around an answer does not belong to it.

    Args:
        answers: ``{"text": [...], "answer_start": [...]}``, a list of ``{"text": ...,
            "answer_start": ...}``, or one of these; empty or None for none.
        context: The text.
        where: What an error begins with: ``"Row 7"``.

    Returns:
        The span of each answer, in characters.

    Raises:
        ValueError: An answer does not stand at its ``answer_start``; says where it does.

    Example:
        >>> answer_spans({"text": ["falls"], "answer_start": [5]}, "Rain falls.", "Row 0")
        [AnswerSpan(start=5, end=10)]
        >>> answer_spans({"text": "falls", "answer_start": 4}, "Rain falls.", "Row 0")
        Traceback (most recent call last):
            ...
        ValueError: Row 0: the answer 'falls' is not at answer_start=4, where there is ' fall'. ...
    """
    found = []
    for text, start in _pairs(answers, where):
        if not text.strip():
            raise ValueError(
                f"{where}: an answer is {text!r}. Give a question without an answer no answers at "
                'all: {"text": [], "answer_start": []}.'
            )
        if start < 0 or context[start : start + len(text)] != text:
            raise ValueError(f"{where}: {_misplaced(text, start, context)}")
        before = len(text) - len(text.lstrip())
        found.append(AnswerSpan(start + before, start + len(text.rstrip())))
    return found


def _pairs(answers: Any, where: str) -> list[tuple[str, int]]:
    """Make pairs of a text and a start of the forms that answers come in."""
    if answers is None:
        return []
    if isinstance(answers, Mapping):
        missing = [name for name in ("text", "answer_start") if name not in answers]
        if missing:
            raise ValueError(
                f"{where}: answers have no {missing[0]!r}. Received the keys {list(answers)}; "
                'expected {"text": [...], "answer_start": [...]}.'
            )
        texts, starts = answers["text"], answers["answer_start"]
        if isinstance(texts, str):
            texts, starts = [texts], [starts]
        if len(texts) != len(starts):
            raise ValueError(
                f"{where}: there are {len(texts)} answer texts and {len(starts)} answer_starts; "
                "give each text its start."
            )
        found = list(zip(texts, starts, strict=True))
    elif isinstance(answers, Sequence) and not isinstance(answers, str | bytes):
        found = [pair for answer in answers for pair in _pairs(answer, where)]
    else:
        raise ValueError(
            f"{where}: answers are {answers!r:.60}; expected {{'text': [...], 'answer_start': "
            "[...]}, the texts as they stand in the context and the numbers of their first "
            "characters."
        )
    for text, start in found:
        if not isinstance(text, str) or isinstance(start, bool) or not hasattr(start, "__index__"):
            raise ValueError(
                f"{where}: an answer has the text {text!r:.60} and the answer_start {start!r}; "
                "expected a text and a whole number."
            )
    return [(text, int(start)) for text, start in found]


def _misplaced(text: str, start: int, context: str) -> str:
    there = context[start : start + len(text)] if start >= 0 else ""
    said = f"the answer {text!r:.80} is not at answer_start={start}, where there is {there!r:.80}. "
    places = [at for at in range(len(context)) if context.startswith(text, at)]
    if not places:
        anyhow = context.lower().find(text.lower())
        if anyhow >= 0 and len(context.lower()) == len(context):
            written = context[anyhow : anyhow + len(text)]
            return said + f"At {anyhow} there is {written!r:.80}: write the answer just so."
        return said + (
            "It is nowhere in the context. The answer must be copied from it, character by "
            "character; drop the row if it has none."
        )
    if len(places) == 1:
        return said + f"It occurs once, at {places[0]}: set answer_start={places[0]}."
    return said + (
        f"It occurs at {', '.join(map(str, places[:5]))}: set answer_start to the one that is "
        "meant. Starts count characters, not bytes, from 0."
    )
