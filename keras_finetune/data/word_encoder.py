"""Encoding texts by their words, of which each different one is tokenized once."""

import itertools
import json
import re
import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import tokenizers

from keras_finetune.data.encoded_batch import EncodedBatch, encode_all

# Beyond so many words they are forgotten, so that memory stays bounded.
_MOST_WORDS = 1_000_000
# Where more of the words than this are new, as in Chinese, looking them up does not pay.
_MOST_NEW_SHARE = 0.5
_WORDS_TO_JUDGE = 20_000

# What looks at one character at a time, and what never makes one token of two words.
_NORMALIZERS = {"BertNormalizer", "Lowercase", "NFD", "NFKD", "StripAccents"}
_DROPS_SPACES = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
_SPACE_BESIDE_WHITE_SPACE = re.compile(r" \s|\s ")


class WordEncoder:
    """Encodes texts whose tokens never reach across a space.

    Texts repeat their words: a hundred thousand short ones have some thirty words for each
    different one. The tokenizer then sees each different word once, and texts are put together from
    the words' ids.

    Args:
        tokenizer: A tokenizer of the `tokenizers` library, without truncation, for which
            `has_words` is true.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._keeps_spaces = _kind(_described(tokenizer)) == "keeps"
        self._before, self._after = _special_ids(tokenizer)
        self._lock = threading.Lock()
        self._pays = True
        self._numbers: defaultdict[str, int]
        self._ids: np.ndarray
        self._starts: np.ndarray
        self._forget()

    def encode(
        self, texts: Sequence[str], max_length: int | None, special_tokens: bool
    ) -> EncodedBatch | None:
        """Encode texts, as the tokenizer itself would.

        Args:
            texts: The texts, already checked to be `str`.
            max_length: int, tokens after which a text is cut off, special tokens included.
            special_tokens: Whether to add the special tokens.

        Returns:
            The ids; None if these texts are better left to the tokenizer.
        """
        words = self._words_of(texts) if self._pays and texts else None
        if words is None:
            return None
        with self._lock:
            numbers, before = self._numbers, len(self._numbers)
            which = np.fromiter(map(numbers.__getitem__, words[0]), np.int64, len(words[0]))
            new = list(itertools.islice(numbers, before, None))
            try:
                self._learn(new)
            except ValueError:  # Half a character: the tokenizer names the row.
                self._forget()
                return None
            if len(which) >= _WORDS_TO_JUDGE and len(new) > _MOST_NEW_SHARE * len(which):
                self._pays = False
            ids, starts = self._ids, self._starts
            if len(numbers) > _MOST_WORDS:
                self._forget()
        before_text, after_text = (self._before, self._after) if special_tokens else ((), ())
        most = None if max_length is None else max_length - len(before_text) - len(after_text)
        lengths = starts[which + 1] - starts[which]
        token_ids = ids[_ranges(starts[which], lengths)]
        of_rows = np.diff(np.concatenate([[0], np.cumsum(lengths)])[words[1]])
        return _with_marks(token_ids, of_rows, most, before_text, after_text)

    def _words_of(self, texts: Sequence[str]) -> tuple[list[str], np.ndarray] | None:
        """All words, and where each text's begin, and the end."""
        space, joint = " ", " "
        if self._keeps_spaces:
            # A word has the space before it. Where a space is beside other white space, or ends the
            # text, only the last of it is the word's: such texts are one word.
            space, joint = "\0 ", "\0"
            if any("\0" in text for text in texts):
                return None
            beside = _SPACE_BESIDE_WHITE_SPACE.search
            texts = [text if beside(text) else text.replace(" ", space) for text in texts]
        counts = np.fromiter((text.count(joint) + 1 for text in texts), np.int64, len(texts))
        return joint.join(texts).split(joint), np.concatenate([[0], np.cumsum(counts)])

    def _learn(self, words: list[str]) -> None:
        found = encode_all(self._tokenizer, words, paired=False, special_tokens=False)
        self._ids = np.concatenate([self._ids, found.token_ids])
        self._starts = np.concatenate([self._starts, self._starts[-1] + found.offsets[1:]])

    def _forget(self) -> None:
        self._numbers = defaultdict()
        self._numbers.default_factory = self._numbers.__len__
        self._ids, self._starts = np.zeros(0, np.int32), np.zeros(1, np.int64)


def has_words(tokenizer: tokenizers.Tokenizer) -> bool:
    """Tell whether no token of a tokenizer reaches across a space, but for one before a word.

    Args:
        tokenizer: A tokenizer of the `tokenizers` library.

    Example:
        >>> from keras_finetune.data import Tokenizer
        >>> texts = ["the cat", "the dog"]
        >>> train = Tokenizer.train
        >>> [has_words(train(texts, 300, kind, progress=False)._tokenizer)
        ...  for kind in ("wordpiece", "bpe", "char")]
        [True, True, False]
    """
    return _kind(_described(tokenizer)) is not None


def _described(tokenizer: tokenizers.Tokenizer) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(tokenizer.to_str())
    return described


def _kind(described: dict[str, Any]) -> str | None:
    """Whether spaces are dropped or kept before words; None if tokens may reach across them."""
    if any(part["type"] not in _NORMALIZERS for part in _parts(described["normalizer"])):
        return None
    if described["model"].get("dropout"):  # Then a word has other tokens each time.
        return None
    added = described["added_tokens"]
    if any(set(token["content"]) & set(" \t\n\r\0") for token in added):
        return None
    parts = _parts(described["pre_tokenizer"])
    kinds = {part["type"] for part in parts}
    if len(parts) == 1 and kinds <= _DROPS_SPACES:
        return "drops"
    by_bytes = [part for part in parts if part["type"] == "ByteLevel"]
    if len(by_bytes) == 1 and by_bytes[0]["use_regex"] and kinds <= {"ByteLevel", "Digits"}:
        return None if any(token["rstrip"] for token in added) else "keeps"
    return None


def _parts(described: dict[str, Any] | None) -> list[dict[str, Any]]:
    if described is None:
        return []
    if described["type"] == "Sequence":
        inner = described.get("pretokenizers") or described.get("normalizers") or []
        return [part for one in inner for part in _parts(one)]
    return [described]


def _special_ids(tokenizer: tokenizers.Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens before a text and after it."""
    for probe in ("a", "0", ".", " a"):
        encoding = tokenizer.encode(probe)
        texts = encoding.sequence_ids
        if 0 in texts:
            first = texts.index(0)
            return tuple(encoding.ids[:first]), tuple(encoding.ids[first + texts.count(0) :])
    return (), tuple(tokenizer.encode("").ids)


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The numbers of all ranges, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


def _with_marks(
    token_ids: np.ndarray,
    lengths: np.ndarray,
    most: int | None,
    before: Sequence[int],
    after: Sequence[int],
) -> EncodedBatch:
    """Cut rows off, and put special tokens around them."""
    kept = lengths if most is None else np.minimum(lengths, most)
    if (kept < lengths).any():
        token_ids = token_ids[_ranges(np.cumsum(lengths) - lengths, kept)]
    offsets = np.concatenate([[0], np.cumsum(kept + len(before) + len(after))])
    result = np.empty(offsets[-1], np.int32)
    result[_ranges(offsets[:-1] + len(before), kept)] = token_ids
    for place, number in enumerate(before):
        result[offsets[:-1] + place] = number
    for place, number in enumerate(reversed(after)):
        result[offsets[1:] - 1 - place] = number
    return EncodedBatch(result, offsets)
