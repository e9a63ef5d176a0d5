import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from keras_finetune.data import Tokenizer
from keras_finetune.tasks.answer_windows import choose_layout, make_windows

QUESTIONS = ["Who sat on the mat?", "What ran?", "Who sat on the mat?"]
CONTEXTS = [
    "The cat sat on the mat. " * 12,
    "The dog ran.",
    "The dog ran.",
]


@pytest.fixture(scope="module", params=["bpe", "wordpiece"])
def tokenizer(request):
    return Tokenizer.train(CONTEXTS, vocab_size=300, kind=request.param, progress=False)


def gpt(special=("<|endoftext|>",)):
    made = tokenizers.Tokenizer(models.BPE({chr(n): n for n in range(32, 330)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens(list(special))
    return Tokenizer(made)


def encode(tokenizer, *, null=None, max_length=32, stride=8, questions=None, contexts=None):
    layout = choose_layout(tokenizer, null)
    return make_windows(
        questions or QUESTIONS,
        contexts or CONTEXTS,
        tokenizer,
        layout,
        max_length=max_length,
        stride=stride,
        first_row=100,
    )


def test_the_same_windows_as_the_tokenizers_library(tokenizer):
    reference = tokenizers.Tokenizer.from_str(tokenizer._tokenizer.to_str())
    reference.enable_truncation(32, stride=8, strategy="only_second")
    found = encode(tokenizer)
    ids, segments, questions = [], [], []
    for number, pair in enumerate(zip(QUESTIONS, CONTEXTS, strict=True)):
        encoding = reference.encode(*pair)
        for each in [encoding, *encoding.overflowing]:
            ids.append(each.ids)
            segments.append(each.type_ids)
            questions.append(number)
    assert len(ids) > 5
    assert [row.tolist() for row in np.split(found.token_ids, found.offsets[1:-1])] == ids
    assert [row.tolist() for row in np.split(found.segment_ids, found.offsets[1:-1])] == segments
    assert found.questions.tolist() == questions


def test_every_token_of_the_context_is_in_a_window(tokenizer):
    found = encode(tokenizer, max_length=24, stride=5)
    for question, context in enumerate(CONTEXTS):
        whole = tokenizer.encode_batch([context], special_tokens=False).token_ids
        held = np.full(len(whole), -1)
        rows = np.flatnonzero(found.questions == question)
        for row in rows:
            first, count = found.first_tokens[row], found.num_tokens[row]
            at = found.offsets[row] + found.context_at[row]
            held[first : first + count] = found.token_ids[at : at + count]
        assert held.tolist() == whole.tolist()
        shared = found.first_tokens[rows][:-1] + found.num_tokens[rows][:-1]
        assert (shared - found.first_tokens[rows][1:] == 5).all()
    assert found.lengths.max() == 24


def test_null_position(tokenizer):
    first, last = encode(tokenizer), encode(tokenizer, null="last")
    assert set(first.token_ids[first.offsets[:-1] + first.null_at]) == {tokenizer.cls_id}
    assert set(last.token_ids[last.offsets[:-1] + last.null_at]) == {tokenizer.sep_id}
    assert (last.null_at == last.lengths - 1).all()


def test_gpt_gets_its_end_token_between_and_at_the_end():
    tokenizer = gpt()
    found = encode(tokenizer, max_length=64, stride=16)
    for row, question in enumerate(found.questions):
        ids = found.token_ids[found.offsets[row] : found.offsets[row + 1]]
        marks = np.flatnonzero(ids == tokenizer.eos_id)
        assert marks.tolist() == [len(QUESTIONS[question]), len(ids) - 1]
        assert found.null_at[row] == len(ids) - 1
    with pytest.raises(ValueError, match='use null_position="last"'):
        choose_layout(tokenizer, "first")
    with pytest.raises(ValueError, match="no token that ends a text"):
        choose_layout(gpt(special=()), None)


def test_padding(tokenizer):
    found = encode(tokenizer)
    batch = found.batch(np.array([0, len(found.lengths) - 1]), 40, pad_id=7)
    assert batch["token_ids"].shape == (2, 40)
    assert batch["padding_mask"].sum(1).tolist() == found.lengths[[0, -1]].tolist()
    assert set(batch["token_ids"][~batch["padding_mask"]]) == {7}


@pytest.mark.parametrize(
    ("questions", "contexts", "message"),
    [
        (["", "b"], ["c", "d"], "Row 100: the question is empty"),
        (["a", "b"], ["c", " \n"], "Row 101: the context is empty"),
        (["a", None], ["c", "d"], "Row 101: the question is None"),
        (["a", "b"], ["c", 3.5], r"Row 101: the context is 3\.5"),
        (["a", "b"], ["c", "d\ud800"], "Row 101: the text has half a character"),
        (["a", "the cat " * 30], ["c", "d"], "Row 101: the question has .* leaves 0 of max_len"),
    ],
)
def test_bad_rows(tokenizer, questions, contexts, message):
    with pytest.raises(ValueError, match=message):
        encode(tokenizer, questions=questions, contexts=contexts)


def test_a_context_of_nothing_the_tokenizer_knows():
    tokenizer = Tokenizer.train(["a b"] * 2, kind="wordpiece", progress=False)
    with pytest.raises(ValueError, match="Row 100: the tokenizer finds no token in the context"):
        encode(tokenizer, questions=["a"], contexts=["\u200b"])
