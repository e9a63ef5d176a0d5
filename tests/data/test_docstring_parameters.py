import pytest

from keras_finetune.data.docstring_parameters import MAX_CONTEXT_CHARS, described_names

GOOGLE = """\
Stack arrays.

Some words on it,
on two lines.

Args:
    arrays: The arrays, e.g. a list,
        of equal shapes. They stay.
    axis (int): The axis
      to stack along
    *rest: Further arrays to stack.
    out: short
    fn: Called as:
      `f(x)` for each.

        More on it.

Returns:
    value: Not a parameter at all.

Raises:
    ValueError: If shapes differ.

>>> stack(x)
Args: this is no heading

Example:

```python
Args:
    hidden: Never shown to anyone.
```
"""

NUMPY = """\
Stack arrays.

Parameters
----------
arrays : sequence of array_like
    The arrays to stack. They stay.

    More about them.
axis : {0, 1}, optional
    The axis to stack along,
    0 by default
x1, x2 : array_like
    Two arrays at once.

Returns
-------
out : ndarray
    Not a parameter at all.

Raises
------
ValueError
    If the shapes differ.
"""


def answers(text):
    return {
        found.name: (found.kind, found.context[found.start : found.end])
        for found in described_names(text)
    }


def test_google():
    assert answers(GOOGLE) == {
        "arrays": ("parameter", "The arrays, e.g. a list, of equal shapes."),
        "axis": ("parameter", "The axis to stack along"),
        "rest": ("parameter", "Further arrays to stack."),
        "fn": ("parameter", "Called as: `f(x)` for each."),
        "ValueError": ("exception", "If shapes differ."),
    }


def test_numpy():
    assert answers(NUMPY) == {
        "arrays": ("parameter", "The arrays to stack."),
        "axis": ("parameter", "The axis to stack along, 0 by default"),
        "ValueError": ("exception", "If the shapes differ."),
    }


def test_context_joins_lines_and_leaves_code_out():
    context = next(described_names(GOOGLE)).context
    assert context.startswith("Stack arrays.\nSome words on it, on two lines.\nArgs:\narrays: The")
    assert ">>>" not in context
    assert "hidden" not in context
    assert (
        "axis : {0, 1}, optional\nThe axis to stack along, 0 by default"
        in next(described_names(NUMPY)).context
    )


def test_long_docstrings_are_cut_around_the_answer():
    entries = [f"    p{n}: Parameter number {n} of many. {'x' * 100}" for n in range(100)]
    text = "Summary.\n\nArgs:\n" + "\n".join(entries)
    found = list(described_names(text))
    assert len(found) == 100
    for number, each in enumerate(found):
        assert each.context[each.start : each.end] == f"Parameter number {number} of many."
        assert MAX_CONTEXT_CHARS / 2 < len(each.context) <= MAX_CONTEXT_CHARS
    assert found[0].context.startswith("Summary.")
    assert 300 < found[50].start < 1_200


@pytest.mark.parametrize("text", ["", "Args:", "Args:\n", "Raises:\nself - no indent", "a\n---"])
def test_nothing_described(text):
    assert list(described_names(text)) == []
