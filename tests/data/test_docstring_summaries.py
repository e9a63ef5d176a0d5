import pytest

from keras_finetune.data.docstring_splits import split_of
from keras_finetune.data.docstring_summaries import summarization_rows, summary_and_document
from keras_finetune.data.docstrings import Docstring

SUMMARY = "Return the sum of the numbers."
BODY = "They are added one after the other, from the first to the last of them.\n" * 3


def module_in(split, start=0):
    return next(name for n in range(start, 999) if split_of(name := f"module_{n}") == split)


def doc(summary, body, module=None):
    return Docstring("numpy", module or module_in("train"), "f", f"{summary}\n\n{body}")


def test_first_line_and_body_are_on_one_line_each():
    docstring = f"Return the sum\nof the numbers.\n\n{BODY}\nNotes\n-----\nNone."
    summary, document = summary_and_document(docstring)
    assert summary == SUMMARY
    assert document == " ".join(BODY.split()) + " Notes None."


def test_code_is_left_out_and_long_bodies_are_cut_at_a_word():
    body = f"{BODY}\n>>> total([1])\n... # more\n1\n```python\nx = 1\n```\n{BODY}" + BODY * 30
    _, document = summary_and_document(f"{SUMMARY}\n\n{body}")
    assert ">>>" not in document
    assert "x = 1" not in document
    assert 1_990 <= len(document) <= 2_000
    assert document.rsplit(" ", 1)[1] in BODY


@pytest.mark.parametrize(
    "docstring",
    [
        SUMMARY,
        f"{SUMMARY}\n\nToo short.",
        f"Sum of it.\n\n{BODY}",
        f"return the sum of the numbers\n\n{BODY}",
        f"Returns for all the numbers:\n\n{BODY}",
        f"{SUMMARY * 10}\n\n{BODY}",
        f"{SUMMARY}\n\n{BODY} return the sum of the numbers",
    ],
)
def test_docstrings_without_a_summary_of_their_own(docstring):
    assert summary_and_document(docstring) is None


def test_rows_have_each_document_and_each_summary_once():
    other = "Return the mean of the numbers."
    rows = list(
        summarization_rows(
            [
                doc(SUMMARY, BODY),
                doc(SUMMARY.upper().capitalize(), BODY + "And so on."),
                doc(other, BODY.replace("\n", " \n")),
                doc(other, BODY + "Divided by their number."),
            ]
        )
    )
    assert [row["summary"] for row in rows] == [SUMMARY]
    assert set(rows[0]) == {"document", "summary", "module"}


def test_what_two_splits_have_is_in_neither():
    test, other = module_in("test"), "Another summary of the other text."
    same_summary = [doc(SUMMARY, BODY), doc(SUMMARY, BODY + "And so on.", test)]
    same_document = [doc(SUMMARY, BODY), doc(other, BODY, test)]
    assert list(summarization_rows(same_summary)) == []
    assert list(summarization_rows(same_document)) == []
