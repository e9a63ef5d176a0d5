"""Texts before which generation stops."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


class Stops:
    """Looks for stop texts in what was generated. It is false if there are none.

    Args:
        texts: Before which to stop.
        tokenizer: A `keras_finetune.data.Tokenizer`, or None.

    Raises:
        ValueError: There are texts and no tokenizer, or one is empty.
    """

    def __init__(self, texts: Sequence[str], tokenizer: Any) -> None:
        if not isinstance(texts, Iterable):
            raise ValueError(f"stop must be texts that are not empty. Received: {texts!r}.")
        self._texts = (texts,) if isinstance(texts, str) else tuple(texts)
        self._tokenizer = tokenizer
        if not all(isinstance(text, str) and text for text in self._texts):
            raise ValueError(f"stop must be texts that are not empty. Received: {texts!r}.")
        if self._texts and tokenizer is None:
            raise ValueError(
                "stop is a list of texts, for which the model needs a tokenizer. Set "
                "model.tokenizer to a keras_finetune.data.Tokenizer."
            )

    def __bool__(self) -> bool:
        return bool(self._texts)

    def text(self, tokens: Sequence[int] | np.ndarray) -> str:
        """Decode tokens."""
        decoded: str = self._tokenizer.decode(tokens)
        return decoded

    def found(self, tokens: Sequence[int] | np.ndarray) -> bool:
        """Whether a stop text is there."""
        return bool(self._texts) and any(text in self.text(tokens) for text in self._texts)

    def cut(self, tokens: np.ndarray, *, as_text: bool) -> Any:
        """Return what stands before the first stop text, as a text or as tokens."""
        if not as_text and not self._texts:
            return tokens
        text = self.text(tokens)
        kept = text[: min([len(text), *(text.find(x) for x in self._texts if x in text)])]
        if as_text:
            return kept
        length = len(tokens)
        while length and len(self.text(tokens[:length])) > len(kept):
            length -= 1
        return tokens[:length]

    def longest_beginning(self, text: str) -> int:
        """How many characters at the end of a text may be the beginning of a stop text."""
        sizes = (size for stop in self._texts for size in range(1, len(stop)))
        return max((n for n in sizes if any(text.endswith(x[:n]) for x in self._texts)), default=0)


def complete_text(text: str) -> str:
    """Leave out a character at the end of which not all tokens are there yet.

    Example:
        >>> complete_text("caf" + chr(0xFFFD))
        'caf'
    """
    return text.rstrip("\ufffd")
