"""Summaries that people wrote: the first line of a docstring, of what comes after it."""

import re
from collections.abc import Iterable, Iterator

from keras_finetune.data.docstring_splits import with_one_home
from keras_finetune.data.docstrings import Docstring

MIN_DOCUMENT_CHARS, MAX_DOCUMENT_CHARS = 150, 2_000
MIN_SUMMARY_WORDS, MAX_SUMMARY_WORDS = 4, 25


def summary_and_document(docstring: str) -> tuple[str, str] | None:
    r"""Take a docstring apart into its first line and its body, on one line each.

    The first line must be a sentence of 4 to 25 words that the body does not repeat, set off by an
    empty line. Examples in code are left out of the body; of a long body the beginning is kept, to
    the end of a word.

    Args:
        docstring: The docstring, without indentation.

    Returns:
        Summary and document; None where the docstring does not have both.

    Example:
        >>> docstring = "Return the sum of the numbers.\n\n" + "They are added up. " * 9
        >>> summary_and_document(docstring)[0]
        'Return the sum of the numbers.'
        >>> summary_and_document("Sum.") is None
        True
    """
    first, _, body = docstring.partition("\n\n")
    summary = " ".join(first.split())
    without_code = re.sub(r"```.*?(```|\Z)", " ", body, flags=re.DOTALL)
    without_code = re.sub(r"^\s*(>>>|\.\.\. ).*$", " ", without_code, flags=re.MULTILINE)
    document = " ".join(re.sub(r"([-=~*^])\1{2,}", " ", without_code).split())
    if len(document) > MAX_DOCUMENT_CHARS:
        document = document[:MAX_DOCUMENT_CHARS].rsplit(" ", 1)[0]
    words = re.findall(r"[A-Za-z]{2,}", summary)
    bare = summary.rstrip(".").lower()
    if (
        not MIN_SUMMARY_WORDS <= len(words) <= MAX_SUMMARY_WORDS
        or not summary[0].isupper()
        or summary.endswith((":", ",", ";"))
        or ">>>" in summary
        or len(document) < MIN_DOCUMENT_CHARS
        or bare in document.lower()
    ):
        return None
    return summary, document


def summarization_rows(docstrings: Iterable[Docstring]) -> Iterator[dict[str, str]]:
    """Make the rows of ``summarization``: which line stood above this text?

    Each document is there once, and so is each summary; one that several packages, or modules of
    several splits, have is left out.

    Args:
        docstrings: The documentation, in a fixed order.

    Yields:
        Rows with ``document``, ``summary`` and ``module``.
    """
    found = []
    for docstring in docstrings:
        parts = summary_and_document(docstring.text)
        if parts is not None:
            found.append((*parts, docstring))
    documents = with_one_home((document, home) for _, document, home in found)
    summaries = with_one_home((summary.lower(), home) for summary, _, home in found)
    for summary, document, home in found:
        if documents.get(document) is home and summaries.get(summary.lower()) is home:
            yield {"document": document, "summary": summary, "module": home.module}
