"""Questions about the parameters of functions, and their answers in the docstrings."""

from collections.abc import Iterable, Iterator

from keras_finetune.data.docstring_parameters import described_names
from keras_finetune.data.docstring_splits import Row, digest, with_one_home
from keras_finetune.data.docstrings import Docstring


def question_answering_rows(docstrings: Iterable[Docstring]) -> Iterator[Row]:
    """Make the rows of ``question_answering``: what is said of a parameter or an exception?

    Each answer is there once. One that several packages, or modules of several splits, have is
    left out, and so is a docstring.

    Args:
        docstrings: The documentation, in a fixed order.

    Yields:
        Rows with ``id``, ``question``, ``context``, ``answers`` and ``module``.
    """
    named = (docstring for docstring in docstrings if docstring.name)
    texts = ((" ".join(docstring.text.split()), docstring) for docstring in named)
    found = [
        (described, home)
        for home in with_one_home(texts).values()
        for described in described_names(home.text)
    ]
    answers = [described.context[described.start : described.end] for described, _ in found]
    homes = (home for _, home in found)
    unused = set(with_one_home(zip(answers, homes, strict=True)))
    rows: dict[str, Row] = {}
    for (described, home), answer in zip(found, answers, strict=True):
        if answer not in unused:
            continue
        unused.remove(answer)
        of = f"{home.module.split('.')[0]}.{home.name}".removesuffix(".__init__")
        question = f"What is `{described.name}` in `{of}`?"
        if described.kind == "exception":
            question = f"When does `{of}` raise `{described.name}`?"
        key = digest(f"{question}\n{described.context}")[:16]
        given = {"text": [answer], "answer_start": [described.start]}
        if key in rows:  # an exception that is raised for several reasons
            for name, values in given.items():
                rows[key]["answers"][name] += values
            continue
        rows[key] = {
            "id": key,
            "question": question,
            "context": described.context,
            "answers": given,
            "module": home.module,
        }
    yield from rows.values()
