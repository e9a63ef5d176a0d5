import numpy as np
import pytest

from keras_finetune.data import Tokenizer
from keras_finetune.data.question_answers import AnswerSpan
from keras_finetune.tasks.answer_targets import choose_answer, window_targets
from keras_finetune.tasks.answer_windows import choose_layout, make_windows

CONTEXT = " ".join(f"word{number} and then" for number in range(20)) + "."


@pytest.fixture(scope="module", params=["bpe", "wordpiece", "char"])
def windows_of(request):
    texts = [CONTEXT, "北京是中国的首都。", "Cafe\u0301 au lait, 1870s."]
    tokenizer = Tokenizer.train(texts, 400, request.param, min_frequency=1, progress=False)

    def encode(contexts, max_length=48, null=None):
        layout = choose_layout(tokenizer, null)
        return make_windows(
            ["Who?"] * len(contexts), contexts, tokenizer, layout, max_length=max_length, stride=12
        )

    return encode


@pytest.mark.parametrize("null", ["first", "last"])
def test_targets_lead_back_to_the_answer(windows_of, null):
    answers = ["word3", "word19 and then.", "and then word7"]
    windows = windows_of([CONTEXT] * len(answers), null=null)
    spans = [AnswerSpan(CONTEXT.index(text), CONTEXT.index(text) + len(text)) for text in answers]
    positions, widened, kept = window_targets(windows, [[span] for span in spans])
    assert kept.all()
    assert not widened.any()
    for number, text in enumerate(answers):
        found = set()
        for row in np.flatnonzero(windows.questions == number):
            first, last = positions[row]
            if first == last == windows.null_at[row]:
                continue
            offset = windows.first_tokens[row] - windows.context_at[row]
            tokens = windows.spans[number]
            found.add(CONTEXT[tokens[first + offset, 0] : tokens[last + offset, 1]])
        assert found == {text}


def test_chinese_and_accents(windows_of):
    contexts = ["北京是中国的首都。", "Cafe\u0301 au lait, 1870s."]
    windows = windows_of(contexts)
    positions, widened, kept = window_targets(windows, [[AnswerSpan(3, 5)], [AnswerSpan(0, 5)]])
    assert kept.all()
    for row in range(2):
        first, last = positions[row] - windows.context_at[row]
        start, end = windows.spans[row][first, 0], windows.spans[row][last, 1]
        answer = ["中国", "Cafe\u0301"][row]
        # Byte pairs may join bytes of two characters.
        assert answer in contexts[row][start:end]
        assert (contexts[row][start:end] == answer) != widened[row]


def test_inside_a_token_is_widened(windows_of):
    context = "Cafe\u0301 au lait, 1870s."
    windows = windows_of([context])
    start, end = windows.spans[0][0]
    if end - start < 3:
        pytest.skip("no token of this tokenizer is long enough to begin an answer inside it")
    _, widened, kept = window_targets(windows, [[AnswerSpan(int(start) + 1, int(end))]])
    assert widened.all()
    assert kept.all()


def test_longer_than_any_window_and_no_answer(windows_of):
    windows = windows_of([CONTEXT, CONTEXT])
    positions, _, kept = window_targets(windows, [[AnswerSpan(0, len(CONTEXT))], []])
    assert not kept[windows.questions == 0].any()
    assert kept[windows.questions == 1].all()
    assert (positions == windows.null_at[:, None]).all()


def test_the_answer_given_most_often_is_learned():
    long, short = AnswerSpan(0, 9), AnswerSpan(4, 9)
    assert choose_answer([long, short, short]) == short
    assert choose_answer([long, short]) == long
