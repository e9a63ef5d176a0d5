"""Greedy generation, without a cache."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np


def generate(
    model: keras.Model,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    end_id: int,
    start_id: int | None = None,
    pad_id: int = 0,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    repetition_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    batch_size: int = 32,
) -> list[np.ndarray]:
    """Continue prompts with the likeliest token, again and again.

    Args:
        model: Gives logits (batch, length, vocab_size): a causal language model, or an
            encoder-decoder.
        prompts: Token ids of each prompt; of each source for an encoder-decoder.
        max_new_tokens: int, tokens after which generation stops.
        end_id: int, the token that ends a text.
        start_id: int, the first token of an encoder-decoder's decoder.
        pad_id: int, what stands under the padding.
        num_beams: int, only 1 so far.
        length_penalty: float, of beam search.
        temperature: float, only 0 so far: no sampling.
        top_k: int, of sampling.
        top_p: float, of sampling.
        seed: int, of sampling.
        repetition_penalty: float, only 1 so far.
        no_repeat_ngram_size: int, only 0 so far.
        batch_size: int, prompts at a time.

    Returns:
        The new token ids of each prompt, int32, without `end_id`.

    Raises:
        ValueError: An option that is not there yet, or no `start_id` for an encoder-decoder.

    Example:
        >>> from keras_finetune.models import language_model, transformer_decoder
        >>> backbone = transformer_decoder(20, num_layers=1, num_heads=2, hidden_dim=8)
        >>> (new,) = generate(language_model(backbone), [[3, 4]], max_new_tokens=3, end_id=1)
        >>> len(new) <= 3
        True
    """
    options = (num_beams, temperature, top_k, top_p, repetition_penalty, no_repeat_ngram_size)
    if options != (1, 0.0, None, None, 1.0, 0):
        raise ValueError("Only greedy generation is there so far: leave its options as they are.")
    two_sided = isinstance(model.input, dict) and "decoder_token_ids" in model.input
    if two_sided and start_id is None:
        raise ValueError("An encoder-decoder needs start_id, the first token of its decoder.")
    done: list[np.ndarray] = []
    for first in range(0, len(prompts), batch_size):
        rows = [np.asarray(row, np.int32) for row in prompts[first : first + batch_size]]
        done += _greedy(
            model, rows, max_new_tokens, end_id, start_id if two_sided else None, pad_id
        )
    return done


def _greedy(
    model: keras.Model,
    rows: list[np.ndarray],
    max_new_tokens: int,
    end_id: int,
    start_id: int | None,
    pad_id: int,
) -> list[np.ndarray]:
    room = max_new_tokens - 1 if start_id is None else 0  # The last new token is never read.
    source, lengths = _padded(rows, room, pad_id)
    inputs: dict[str, Any] = {"token_ids": source}
    written, prefix = source, ""
    if start_id is not None:
        inputs["padding_mask"] = np.arange(source.shape[1]) < lengths[:, None]
        starts = [np.array([start_id], np.int32)] * len(rows)
        written, lengths = _padded(starts, max_new_tokens - 1, pad_id)
        prefix = "decoder_"
        inputs["decoder_token_ids"] = written
    index = np.arange(len(rows))
    new = np.full((len(rows), max_new_tokens), end_id, np.int32)
    going = np.ones(len(rows), bool)
    for step in range(max_new_tokens):
        inputs[f"{prefix}padding_mask"] = np.arange(written.shape[1]) < (lengths + step)[:, None]
        logits = np.asarray(model.predict_on_batch(inputs))
        chosen = logits[index, lengths + step - 1].argmax(axis=-1)
        new[going, step] = chosen[going]
        going &= chosen != end_id
        if not going.any():
            break
        if step + 1 < max_new_tokens:
            written[index, lengths + step] = new[:, step]
    ends = [np.flatnonzero(row == end_id) for row in new]
    return [row[: end[0]] if len(end) else row for row, end in zip(new, ends, strict=True)]


def _padded(rows: list[np.ndarray], room: int, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(row) for row in rows])
    padded = np.full((len(rows), int(lengths.max()) + room), pad_id, np.int32)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return padded, lengths
