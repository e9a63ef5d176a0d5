"""A question and a text as rows of a model, several where the text is long."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from keras_finetune.data import EncodedBatch, Tokenizer
from keras_finetune.data.alignment import written_spans
from keras_finetune.data.pair_template import PairTemplate
from keras_finetune.data.text_checks import check_texts


class Layout(NamedTuple):
    """How a row is put together.

    Attributes:
        template: The special tokens around question and text.
        null_first: Whether the position that stands for "no answer here" is the row's first token;
            else it is the last one.
    """

    template: PairTemplate
    null_first: bool


def choose_layout(tokenizer: Tokenizer, null_position: str | None) -> Layout:
    """Choose the special tokens, and the position that stands for "no answer here".

    Tokenizers of the GPT family put nothing around a pair. Their end token then closes question and
    text, since the model could not tell them apart; and it is the null position, since a causal
    model has read all the row only there.

    Args:
        tokenizer: What makes the token ids.
        null_position: `"first"`, `"last"`, or None for what suits the tokenizer.

    Raises:
        ValueError: The tokenizer has no special token to use.
    """
    template = tokenizer.pair_template()
    null_first = bool(template.before and template.after)
    if null_position is not None:
        null_first = null_position == "first"
    if null_first and not template.before:
        raise ValueError(
            'null_position="first" needs a tokenizer that begins each text with a special token, '
            'as [CLS]. This one does not: use null_position="last".'
        )
    known = (tokenizer.eos_id, tokenizer.sep_id)
    closing = tuple(number for number in known if number is not None)[:1]
    template = template._replace(
        between=template.between or closing, after=template.after or closing
    )
    if not (template.between and template.after):
        raise ValueError(
            "The tokenizer has no token that ends a text, so that question and context cannot be "
            "told apart. Use one with [CLS] and [SEP], as Tokenizer.train makes, or one with an "
            f"end token. Its special tokens: {tokenizer.special_tokens}"
        )
    return Layout(template, null_first)


@dataclass(frozen=True)
class Windows:
    """Rows of a model, of which several may belong to one question.

    Attributes:
        token_ids: int32, one row after the other: question, then a part of the context.
        segment_ids: int32, as `token_ids`.
        offsets: (rows + 1,) where each row begins.
        questions: (rows,) the number of each row's question.
        first_tokens: (rows,) which of the context's tokens is the row's first.
        context_at: (rows,) where in the row that token is.
        num_tokens: (rows,) how many of the context's tokens the row has.
        null_at: (rows,) the position that stands for "no answer here".
        spans: For each question, (tokens, 2) the characters of the context's tokens.
    """

    token_ids: np.ndarray
    segment_ids: np.ndarray
    offsets: np.ndarray
    questions: np.ndarray
    first_tokens: np.ndarray
    context_at: np.ndarray
    num_tokens: np.ndarray
    null_at: np.ndarray
    spans: list[np.ndarray]

    @property
    def lengths(self) -> np.ndarray:
        """(rows,) tokens of each row."""
        return np.diff(self.offsets)

    def batch(self, rows: np.ndarray, width: int, pad_id: int) -> dict[str, np.ndarray]:
        """Return some rows as a model takes them, padded to a width."""
        position = np.arange(width)
        mask = position < self.lengths[rows][:, None]
        at = np.where(mask, self.offsets[rows][:, None] + position, 0)
        return {
            "token_ids": np.where(mask, self.token_ids[at], pad_id).astype(np.int32),
            "segment_ids": np.where(mask, self.segment_ids[at], 0).astype(np.int32),
            "padding_mask": mask,
        }


def make_windows(
    questions: Sequence[str],
    contexts: Sequence[str],
    tokenizer: Tokenizer,
    layout: Layout,
    *,
    max_length: int,
    stride: int,
    first_row: int = 0,
) -> Windows:
    """Encode questions with their contexts; a long context becomes overlapping rows.

    Args:
        questions: The questions, which stand in every row, whole.
        contexts: The text of each question. Equal ones are encoded once.
        tokenizer: What makes the token ids.
        layout: From `choose_layout`.
        max_length: int, tokens of a row at most.
        stride: int, tokens of the context that a row shares with the one before; at most half of
            those that there is room for.
        first_row: Number of the first question in its source, for error messages.

    Raises:
        ValueError: A question or a context is empty or no text, or a question leaves no room for
            the context; names the row.
    """
    for name, texts in (("question", questions), ("context", contexts)):
        check_texts(texts, first_row, name, may_be_empty=False)
        for row, text in enumerate(texts, first_row):
            if not text.strip():
                raise ValueError(f"Row {row}: the {name} is empty. Drop the row, or mend it.")
    asked = tokenizer.encode_batch(
        [question.strip() for question in questions], special_tokens=False, first_row=first_row
    )
    distinct = {context: number for number, context in enumerate(dict.fromkeys(contexts))}
    try:
        read = tokenizer.encode_batch(list(distinct), special_tokens=False, char_spans=True)
    except ValueError:
        tokenizer.encode_batch(list(contexts), first_row=first_row)  # whose error names the row
        raise
    spans = _spans(list(distinct), read)

    before, between, after, segments = layout.template
    ids: list[np.ndarray] = []
    kinds: list[np.ndarray] = []
    described: list[tuple[int, int, int, int, int]] = []
    for row, context in enumerate(contexts):
        number = distinct[context]
        question, tokens = asked[row], read[number]
        if not (spans[number][:, 0] < spans[number][:, 1]).any():
            raise ValueError(
                f"Row {first_row + row}: the tokenizer finds no token in the context "
                f"{context!r:.60}. Drop the row."
            )
        head = np.concatenate([before, question, between]).astype(np.int32)
        room = max_length - len(head) - len(after)
        if room < max(max_length // 4, 1):
            raise ValueError(
                f"Row {first_row + row}: the question has {len(question)} tokens, which leaves "
                f"{max(room, 0)} of max_length={max_length} for the context; a quarter is the "
                "least. Shorten the question, or raise max_length."
            )
        sizes = (len(before), len(question), len(between))
        head_kinds = np.repeat(np.asarray(segments[:3], np.int32), sizes)
        step = room - min(stride, room // 2)
        for start in range(0, max(len(tokens) - room, 0) + step, step):
            part = tokens[start : start + room]
            ids += [head, part, np.asarray(after, np.int32)]
            tail = (len(part), len(after))
            kinds += [head_kinds, np.repeat(np.asarray(segments[3:], np.int32), tail)]
            described.append((row, start, len(head), len(part), len(head) + sum(tail)))
    rows = np.array(described, np.int64).reshape(-1, 5)
    return Windows(
        token_ids=np.concatenate(ids) if ids else np.zeros(0, np.int32),
        segment_ids=np.concatenate(kinds) if kinds else np.zeros(0, np.int32),
        offsets=np.append(0, np.cumsum(rows[:, 4])),
        questions=rows[:, 0],
        first_tokens=rows[:, 1],
        context_at=rows[:, 2],
        num_tokens=rows[:, 3],
        null_at=np.zeros(len(rows), np.int64) if layout.null_first else rows[:, 4] - 1,
        spans=[spans[distinct[context]] for context in contexts],
    )


def _spans(texts: Sequence[str], read: EncodedBatch) -> list[np.ndarray]:
    if read.char_spans is None:
        raise TypeError("The texts must be encoded with char_spans=True.")
    bounds = zip(texts, read.offsets[:-1], read.offsets[1:], strict=True)
    return [written_spans(text, read.char_spans[start:end]) for text, start, end in bounds]
