"""From the logits of next tokens to tokens: greedy or sampled, with what must not come again."""

from collections.abc import Sequence

import numpy as np


def choose(
    logits: np.ndarray,
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Choose the next token of each row.

    Sources: top-k, [Fan et al., 2018](https://arxiv.org/abs/1805.04833); top-p,
    [Holtzman et al., 2019](https://arxiv.org/abs/1904.09751).

    Args:
        logits: (batch, vocab_size) float32.
        temperature: float, what logits are divided by; 0 takes the most probable token.
        top_k: int, choose among so many of the most probable tokens.
        top_p: float, choose among the most probable tokens that together have this probability.
        rng: Where chance comes from.

    Returns:
        (batch,) int32.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> choose(np.array([[0.0, 3.0, 1.0]]), rng=rng).tolist()
        [1]
    """
    if temperature == 0.0:
        return logits.argmax(-1).astype(np.int32)
    # Gumbel's trick: the greatest of log probabilities with such noise is a sample.
    kept = log_softmax(logits.astype(np.float64) / temperature)
    if top_k is not None and top_k < kept.shape[-1]:
        least = np.partition(kept, -top_k, axis=-1)[:, -top_k, None]
        kept = np.where(kept >= least, kept, -np.inf)
    if top_p is not None and top_p < 1.0:
        kept = _most_probable(kept, top_p)
    return (kept + rng.gumbel(size=kept.shape)).argmax(-1).astype(np.int32)


def penalize_repetition(
    logits: np.ndarray, histories: Sequence[np.ndarray], penalty: float
) -> np.ndarray:
    """Make tokens less probable that were there before.

    Source: [CTRL](https://arxiv.org/abs/1909.05858), section 4.1.

    Args:
        logits: (batch, vocab_size).
        histories: The tokens of each row so far.
        penalty: float, what positive logits are divided by, and negative ones multiplied by.

    Returns:
        Logits of the same shape.

    Example:
        >>> penalize_repetition(np.array([[2.0, -1.0, 1.0]]), [np.array([0, 1])], 2.0).tolist()
        [[1.0, -2.0, 1.0]]
    """
    logits = logits.copy()
    for row, history in zip(logits, histories, strict=True):
        seen = np.unique(history)
        row[seen] = np.where(row[seen] > 0, row[seen] / penalty, row[seen] * penalty)
    return logits


def forbid_repeated_ngrams(
    logits: np.ndarray, histories: Sequence[np.ndarray], size: int
) -> np.ndarray:
    """Forbid tokens that would make a row of tokens which was there before.

    Source: [Paulus et al., 2017](https://arxiv.org/abs/1705.04304), section 2.5.

    Args:
        logits: (batch, vocab_size).
        histories: The tokens of each row so far.
        size: int, tokens of such a row.

    Returns:
        Logits of the same shape, minus infinity where a token is forbidden.

    Example:
        >>> forbid_repeated_ngrams(np.zeros((1, 3)), [np.array([0, 1, 0])], 2).tolist()
        [[0.0, -inf, 0.0]]
    """
    logits = logits.copy()
    for row, history in zip(logits, histories, strict=True):
        if len(history) < size:
            continue
        grams = np.lib.stride_tricks.sliding_window_view(history, size)
        begun = (grams[:, :-1] == history[len(history) - size + 1 :]).all(axis=1)
        row[grams[begun, -1]] = -np.inf
    return logits


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits into logarithms of probabilities, along the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def _most_probable(log_probabilities: np.ndarray, share: float) -> np.ndarray:
    order = np.argsort(-log_probabilities, axis=-1, kind="stable")
    probabilities = np.exp(np.take_along_axis(log_probabilities, order, -1))
    probabilities /= probabilities.sum(-1, keepdims=True)
    # A token is kept if those before it have not reached the share yet: so the first always is.
    kept = np.cumsum(probabilities, -1) - probabilities < share
    allowed = np.zeros_like(kept)
    np.put_along_axis(allowed, order, kept, -1)
    return np.where(allowed, log_probabilities, -np.inf)
