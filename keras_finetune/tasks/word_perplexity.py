"""Perplexity a word, which tokenizers of different vocabularies have in common."""

import math
import re

from keras_finetune.data import Examples, Tokenizer

# What is written without spaces: Han, kana, their punctuation and wide forms, of a pattern in
# brackets. The ideographic space is white space.
UNSPACED = r"\u3001-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


def perplexities(
    loss: float, examples: Examples, tokenizer: Tokenizer, column: str
) -> dict[str, float]:
    """Return the perplexity of a token, and of a word.

    The loss a token, times the tokens a word that all of the text has, is the loss a word. So what
    was not scored, a last row that is not full, counts like the rest. The separator after a text is
    one of its tokens.

    Args:
        loss: float, nats a token.
        examples: The texts that were scored.
        tokenizer: What encoded them.
        column: Name of the text column.

    Returns:
        `perplexity` and `word_perplexity`; infinity where a float does not hold it.
    """
    separator = tokenizer.eos_id is not None or tokenizer.sep_id is not None
    tokens = words = 0
    for chunk in examples.chunks():
        encoded = tokenizer.encode_batch(chunk[column], special_tokens=False)
        tokens += len(encoded.token_ids) + separator * len(chunk[column])
        words += sum(map(count_words, chunk[column]))
    return {
        "perplexity": _exp(loss),
        "word_perplexity": _exp(loss * tokens / words) if words else math.inf,
    }


def count_words(text: str) -> int:
    """Count what stands between white space; each character of Chinese and Japanese is a word.

    Args:
        text: Any text.

    Example:
        >>> count_words("a well-known example, twice"), count_words("我在 Paris 。")
        (4, 4)
    """
    return len(_WORD.findall(text))


def _exp(nats: float) -> float:
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf
