from keras_finetune.data.docstring_questions import question_answering_rows
from keras_finetune.data.docstring_splits import split_of
from keras_finetune.data.docstrings import Docstring


def module_in(split, package="numpy"):
    return next(name for n in range(1_000) if split_of(name := f"{package}.module_{n}") == split)


def doc(entries, name="f", module=None, summary="Do it."):
    return Docstring("numpy", module or module_in("train"), name, f"{summary}\n\n{entries}")


ARGS = "Args:\n  x: The array to sum.\n  axis: Along which axis it goes.\n"


def test_rows():
    first, second = question_answering_rows([doc(ARGS, "Sum.__init__")])
    assert first["question"] == "What is `x` in `numpy.Sum`?"
    assert first["answers"] == {"text": ["The array to sum."], "answer_start": [16]}
    assert (
        first["context"] == "Do it.\nArgs:\nx: The array to sum.\naxis: Along which axis it goes."
    )
    assert first["module"] == module_in("train")
    assert second["question"] == "What is `axis` in `numpy.Sum`?"
    assert first["id"] != second["id"]


def test_an_answer_is_used_once_and_not_in_two_splits():
    other = "Args:\n  x: The array to sum.\n  y: Something of its own.\n"
    same_split = list(question_answering_rows([doc(ARGS), doc(other, "g")]))
    assert [row["question"].split("`")[1] for row in same_split] == ["x", "axis", "y"]
    elsewhere = doc(other, "g", module_in("test"))
    two_splits = list(question_answering_rows([doc(ARGS), elsewhere]))
    assert [row["question"].split("`")[1] for row in two_splits] == ["axis", "y"]
    copied = [doc(ARGS), doc(ARGS, module=module_in("test"))]
    assert list(question_answering_rows(copied)) == []


def test_several_reasons_are_several_answers():
    raises = "Raises:\n  ValueError: If it is too small.\n  ValueError: If it is too large.\n"
    (row,) = question_answering_rows([doc(raises)])
    assert row["question"] == "When does `numpy.f` raise `ValueError`?"
    assert row["answers"]["text"] == ["If it is too small.", "If it is too large."]


def test_modules_ask_nothing():
    assert list(question_answering_rows([doc(ARGS, name="")])) == []
