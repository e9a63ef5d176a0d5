import numpy as np
import pytest

from keras_finetune.data.text_checks import check_texts


@pytest.mark.parametrize("texts", [[], [""], ["a", "是"], [np.str_("a"), "b"]])
def test_text_passes(texts: list) -> None:
    check_texts(texts)


def test_no_advice_that_is_refused_in_turn() -> None:
    with pytest.raises(ValueError, match=r"\(missing\)\. Drop the row, or fill it in\."):
        check_texts([None], may_be_empty=False)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"Row 7: the text is None \(missing\)\. Drop the row"),
        (float("nan"), r"Row 7: the text is nan \(missing\)"),
        (np.float64("nan"), r"Row 7: the text is nan \(missing\)"),
        (3, r"Row 7: the text is 3 \(int\)\. Convert numbers with str"),
        (0.5, r"Row 7: the text is 0\.5 \(float\)\. Convert"),
        (b"raw", r"Row 7: the text is b'raw' \(bytes\)\. Decode it first"),
        (["a", "b"], r"Row 7: the text is \['a', 'b'\] \(list\)\. Each text is one str"),
    ],
)
def test_what_is_no_text_names_the_row(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_texts(["fine", "fine", value], first_row=5)
