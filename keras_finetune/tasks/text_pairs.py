"""Pairs of texts to token ids, as an encoder-decoder or a decoder-only model reads them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_finetune.data import Tokenizer
from keras_finetune.data.text_checks import check_texts
from keras_finetune.tasks.encoding import ragged


class PairEncoder:
    """Encode a source to read and a target to write.

    Of an encoder-decoder the source has the tokenizer's own special tokens, and the target ends
    with the end token. A decoder-only model reads the source, a separator, the target and the end
    token, one after the other.

    Args:
        tokenizer: The tokenizer of both sides.
        decoder_only: Whether the model is one.
        start_id: int, the first token that an encoder-decoder's decoder reads; None for the
            tokenizer's bos or cls.
        max_length: int, tokens of a source, with special tokens and separator.
        max_target_length: int, tokens of a target, with its end token.
        separator: Stands between source and target for a decoder-only model.

    Attributes:
        end_id: The token that ends a target.
        pad_id: What stands under padding.
        start_id: The decoder's first token; None for a decoder-only model.

    Raises:
        ValueError: The tokenizer has no token to end or to start with, or there is no room.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        decoder_only: bool,
        start_id: int | None,
        max_length: int,
        max_target_length: int,
        separator: str,
    ) -> None:
        self.tokenizer = tokenizer
        self.decoder_only = decoder_only
        self.max_length, self.max_target_length = max_length, max_target_length
        ends = (tokenizer.eos_id, tokenizer.sep_id)
        end_id = next((number for number in ends if number is not None), None)
        if end_id is None:
            raise ValueError(
                "The tokenizer has no token that ends a text, so that a model could not stop. It "
                "needs one of [EOS], </s>, <|endoftext|>, [SEP]: Tokenizer.train(texts, "
                'special_tokens=("[PAD]", "[UNK]", "[CLS]", "[SEP]")).'
            )
        self.end_id = end_id
        # GPT-2 and Llama have no padding token. Masks and weights of 0 hide what stands there.
        self.pad_id = end_id if tokenizer.pad_id is None else tokenizer.pad_id
        marks = tokenizer.encode("")
        self.start_id = None
        self._lead: list[int] = []
        self._separator: list[int] = []
        if decoder_only:
            self._lead = [number for number in marks[:1] if number == tokenizer.bos_id]
            self._separator = _plain(tokenizer, [separator])[0].tolist()
            room = max_length - len(self._lead) - len(self._separator)
        else:
            starts = (start_id, tokenizer.bos_id, tokenizer.cls_id)
            self.start_id = next((number for number in starts if number is not None), None)
            if self.start_id is None:
                raise ValueError(
                    "The tokenizer has no token that starts a text, which an encoder-decoder's "
                    "decoder reads first. It needs one of [BOS], <s>, [CLS]: Tokenizer.train("
                    'texts, special_tokens=("[PAD]", "[UNK]", "[CLS]", "[SEP]")), or give the '
                    "task start_id."
                )
            # BART starts with </s>, and writes <s> before the text.
            self._lead = [n for n in marks[:1] if n not in (self.start_id, end_id)]
            room = min(max_length - len(marks), max_target_length - 1 - len(self._lead))
        if room < 1:
            raise ValueError(
                f"max_length={max_length} and max_target_length={max_target_length} leave no room "
                f"for text beside special tokens and the separator of {len(self._separator)} "
                f"tokens. Make them greater."
            )
        self._marks = 0 if decoder_only else len(marks)

    def described(self) -> list[Any]:
        """Return all that decides the token ids, but for the tokenizer, as plain values."""
        lengths = [self.max_length, self.max_target_length]
        return [self.decoder_only, lengths, self._lead, self._separator, self.end_id]

    def prompts(self, sources: Sequence[str], first_row: int = 0) -> list[np.ndarray]:
        """Encode sources as a model reads them, all that comes before the target.

        Args:
            sources: The texts.
            first_row: Number of the first one, for errors.

        Returns:
            int32 token ids of each.
        """
        if self.decoder_only:
            room = self.max_length - len(self._lead) - len(self._separator)
            found = _plain(self.tokenizer, sources, room)
        else:
            encoded = self.tokenizer.encode_batch(list(sources), max_length=self.max_length)
            found = np.split(encoded.token_ids, encoded.offsets[1:-1])
        _check_tokens(found, self._marks, sources, first_row)
        if not self.decoder_only:
            return found
        before, after = (np.array(ids, np.int32) for ids in (self._lead, self._separator))
        return [np.concatenate([before, row, after]) for row in found]

    def targets(self, targets: Sequence[str], first_row: int = 0) -> list[np.ndarray]:
        """Encode targets as a model writes them, with the end token.

        Args:
            targets: The texts.
            first_row: Number of the first one, for errors.

        Returns:
            int32 token ids of each.
        """
        lead = [] if self.decoder_only else self._lead
        found = _plain(self.tokenizer, targets, self.max_target_length - 1 - len(lead))
        _check_tokens(found, 0, targets, first_row)
        before, end = np.array(lead, np.int32), np.array([self.end_id], np.int32)
        return [np.concatenate([before, row, end]) for row in found]

    def columns(
        self, sources: Sequence[str], targets: Sequence[str], first_row: int = 0
    ) -> dict[str, Any]:
        """Encode pairs as columns of a store.

        Args:
            sources: The texts to read.
            targets: The texts to write.
            first_row: Number of the first pair, for errors.

        Returns:
            For an encoder-decoder `token_ids` and `target_ids`; for a decoder-only model
            `token_ids`, `next_ids` (as long) and `prompt_length`, the tokens before the target.
        """
        prompts, written = self.prompts(sources, first_row), self.targets(targets, first_row)
        if not self.decoder_only:
            return {"token_ids": ragged(prompts), "target_ids": ragged(written)}
        joined = [np.concatenate(pair) for pair in zip(prompts, written, strict=True)]
        return {
            "token_ids": ragged([row[:-1] for row in joined]),
            "next_ids": ragged([row[1:] for row in joined]),
            "prompt_length": np.array([len(row) for row in prompts], np.int32),
        }


def check_filled(texts: Sequence[Any], first_row: int, what: str) -> None:
    """Raise a `ValueError` that names the first row whose value is no text, or an empty one.

    Args:
        texts: The values.
        first_row: Number of the row of the first one.
        what: What the values are, for the message.

    Example:
        >>> check_filled(["fine", " "], 10, "summary")
        Traceback (most recent call last):
        ...
        ValueError: Row 11: the summary is empty. Drop the row, or fill it in.
    """
    check_texts(texts, first_row, what, may_be_empty=False)
    for row, text in enumerate(texts, first_row):
        if not text.strip():
            raise ValueError(f"Row {row}: the {what} is empty. Drop the row, or fill it in.")


def _plain(
    tokenizer: Tokenizer, texts: Sequence[str], max_length: int | None = None
) -> list[np.ndarray]:
    encoded = tokenizer.encode_batch(list(texts), max_length=max_length, special_tokens=False)
    return np.split(encoded.token_ids, encoded.offsets[1:-1])


def _check_tokens(
    found: Sequence[np.ndarray], marks: int, texts: Sequence[str], first_row: int
) -> None:
    for row, (ids, text) in enumerate(zip(found, texts, strict=True), first_row):
        if len(ids) <= marks:
            raise ValueError(
                f"Row {row}: the tokenizer makes no token of the text {text!r:.60}. Drop the row, "
                "or use a tokenizer that knows its characters."
            )
