"""Prompts in a decoder: their token ids, padded, and what each row has got so far."""

import copy
from collections.abc import Callable, Mapping, Sequence, Set
from numbers import Integral
from typing import Any

import keras
import numpy as np

from keras_finetune.generation.choosing import (
    forbid_repeated_ngrams,
    log_softmax,
    penalize_repetition,
)
from keras_finetune.generation.decoder import CachedDecoder
from keras_finetune.generation.decoder_graph import target_prefix
from keras_finetune.generation.keeping import can_keep
from keras_finetune.generation.recomputing import RecomputingDecoder
from keras_finetune.generation.settings import Settings, check_token, most_positions
from keras_finetune.generation.widths import COLUMNS, rounded


class PromptBatch:
    """Prompts in a decoder, the logits of what comes next, and how rows go on.

    Args:
        model: A language model.
        decoder: From `decoder_of`.
        ids: Token ids of each prompt; of the source if there is an encoder.
        begin: int, the decoder's first token; None without an encoder.
        pad_id: int, what rows are filled up with.
        settings: How tokens are chosen.
        ends: Tokens that end a text.
    """

    def __init__(
        self,
        model: keras.Model,
        decoder: Any,
        ids: Sequence[np.ndarray],
        begin: int | None,
        pad_id: int,
        settings: Settings,
        ends: tuple[int, ...],
    ) -> None:
        # What is kept of these prompts is theirs; what was compiled is shared.
        self.decoder, self.ends, self._name = copy.copy(decoder), ends, model.name
        longest = most_positions(model, source=begin is not None)
        prompts, mask = _padded(ids, pad_id, longest)
        source: dict[str, np.ndarray] = {}
        if begin is not None:
            source = {"token_ids": prompts, "padding_mask": mask.astype(np.int32)}
            prompts, mask = np.full((len(ids), 1), begin, np.int32), np.ones((len(ids), 1), bool)
            ids = [np.array([begin], np.int32)] * len(ids)
        self.logits = self.decoder.start(prompts, mask, settings.max_new_tokens, source)
        self.prompts = list(ids)
        self.size = len(ids)

    def split(self, copies: int) -> None:
        """Let each row go on several times."""
        rows = np.repeat(np.arange(self.size), copies)
        self.decoder.reorder(rows)
        self.logits = self.logits[rows]
        self.prompts = [self.prompts[row] for row in rows]

    def allowed(
        self, new: Sequence[np.ndarray], going_on: np.ndarray, settings: Settings
    ) -> np.ndarray:
        """Logits of the next tokens, changed where tokens must not come again.

        For beam search they are log probabilities. The change comes after that, so that a token
        which is forbidden leaves the others theirs: texts are compared by them.

        Args:
            new: The tokens that each row has got.
            going_on: (rows,) bool, which have not ended.
            settings: How tokens are chosen.

        Raises:
            ValueError: The logits of one that has not ended are NaN or infinite.
        """
        logits = self.logits
        if not (logits.max(-1) < np.inf)[going_on].all():
            raise ValueError(
                f"The logits of {self._name!r} are NaN or infinite: no token can be chosen. Look "
                "whether some of its weights are, as after a training that diverged: load earlier "
                "ones, and lower the learning rate. If none is, its numbers are too great for "
                "float16: use bfloat16 or float32."
            )
        if settings.num_beams > 1:
            with np.errstate(invalid="ignore"):  # Of rows that have ended.
                logits = log_softmax(logits.astype(np.float64))
        if settings.repetition_penalty == 1.0 and not settings.no_repeat_ngram_size:
            return logits
        histories = [np.concatenate(x) for x in zip(self.prompts, new, strict=True)]
        if settings.repetition_penalty != 1.0:
            logits = penalize_repetition(logits, histories, settings.repetition_penalty)
        if settings.no_repeat_ngram_size:
            logits = forbid_repeated_ngrams(logits, histories, settings.no_repeat_ngram_size)
        return logits


def decoder_of(model: keras.Model, use_cache: bool) -> Any:
    """Return a model's decoder, which stays with it, so that nothing is compiled again."""
    kind: Callable[[keras.Model], Any]
    kind = CachedDecoder if use_cache and can_keep(model) else RecomputingDecoder
    # Quantizing a model changes its variables, and another precision what layers compute in.
    layers = tuple(layer.compute_dtype for layer in model._flatten_layers())
    now = (tuple(map(id, model.variables)), layers)
    key = (kind, now)
    known = getattr(model, "_keras_finetune_decoders", None)
    if known is None:
        known = model._keras_finetune_decoders = _Decoders()
    if key not in known.made:
        known.made = {k: made for k, made in known.made.items() if k[1] == now}
        known.made[key] = kind(model)
    return known.made[key]


class _Decoders:
    """Holds decoders, so that Keras does not look for layers in them."""

    def __init__(self) -> None:
        self.made: dict[Any, Any] = {}


def as_list(prompts: Any) -> list[Any]:
    """Return the prompts that `generate` was given, if they are several."""
    expected = "generate takes a list of prompts, each a text or a list of token ids"
    if isinstance(prompts, str):
        raise ValueError(f"{expected}. Received: {prompts!r:.100}. Put it in [...].")
    if not hasattr(prompts, "__len__") or isinstance(prompts, Mapping | Set):
        raise ValueError(f"{expected}. Received: {prompts!r:.100}. Make it such a list.")
    listed = list(prompts)
    if listed and isinstance(listed[0], Integral):
        raise ValueError(f"{expected}: [[5, 6]], not [5, 6]. Received: {prompts!r:.100}.")
    return listed


def check_texts(prompts: Sequence[Any], tokenizer: Any) -> None:
    """Refuse texts among token ids, and texts without a tokenizer."""
    texts = [isinstance(prompt, str) for prompt in prompts]
    if any(texts) and not all(texts):
        other = texts.index(not texts[0])
        raise ValueError(
            "Prompts must be all texts or all lists of token ids, since what comes back is as "
            f"they are. Received {prompts[0]!r:.50} and, in row {other}, {prompts[other]!r:.50}."
        )
    if all(texts) and tokenizer is None:
        raise ValueError(
            "Texts need a tokenizer, which the model does not have. Set model.tokenizer to a "
            "keras_finetune.data.Tokenizer, or give token ids."
        )


def check_single(prompt: Any) -> None:
    """Refuse several prompts where one is expected."""
    if isinstance(prompt, list | tuple) and prompt and isinstance(prompt[0], str | list | tuple):
        raise ValueError(
            "stream takes one prompt, a text or a list of token ids. Received a list of them: "
            f"{prompt!r:.100}. Give it one of these, or use generate."
        )


def token_ids_of(
    prompt: Any, tokenizer: Any, model: keras.Model, ends: tuple[int, ...]
) -> np.ndarray:
    """Return the token ids of a prompt, which may be a text."""
    if not isinstance(prompt, str):
        return _known_ids(_as_ids(prompt), model)
    ids = np.asarray(tokenizer.encode(prompt))
    # Tokens around whole texts, as BERT has them, are not what language models are trained with.
    if len(ids) and ids[-1] in ends and not target_prefix(model):
        ids = tokenizer.encode_batch([prompt], special_tokens=False).token_ids
    # Chat templates write the first token themselves.
    if ids[:2].tolist() == [tokenizer.bos_id] * 2:
        ids = ids[1:]
    return _known_ids(np.asarray(ids), model)


def _as_ids(prompt: Any) -> np.ndarray:
    if isinstance(prompt, list | tuple) and not prompt:
        return np.zeros(0, np.int32)
    try:
        ids = np.asarray(prompt)
    except ValueError:
        ids = np.asarray(None)
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            "A prompt must be a text, or a list of token ids, which are ints. Received the prompt "
            f"{prompt!r:.100}."
        )
    return ids


def _known_ids(ids: np.ndarray, model: keras.Model) -> np.ndarray:
    known = model.outputs[0].shape[-1]
    if ids.size and not (ids.min() >= 0 and ids.max() < known):
        wrong = ids[(ids < 0) | (ids >= known)][0]
        raise ValueError(
            f"{model.name!r} knows the token ids from 0 to {known - 1}. Received the id {wrong} in "
            "a prompt: was it encoded by another tokenizer?"
        )
    return ids.astype(np.int32)


def first_token(model: keras.Model, start_id: int | None) -> int | None:
    """Return the decoder's first token; None without an encoder."""
    if not target_prefix(model):
        return None
    config = getattr(model, "pretrained_config", None) or {}
    tokenizer = getattr(model, "tokenizer", None)
    known = (
        start_id,
        config.get("decoder_start_token_id"),
        getattr(tokenizer, "bos_id", None),
        getattr(tokenizer, "cls_id", None),
    )
    found = next((number for number in known if number is not None), None)
    if found is None:
        raise ValueError(
            "It is not known which token the decoder begins with: the tokenizer has no bos or cls "
            "token. Give start_id, the token that targets begin with in training."
        )
    check_token("start_id", found, model.outputs[0].shape[-1])
    return int(found)


def _padded(
    ids: Sequence[np.ndarray], pad_id: int, longest: float
) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(row) for row in ids])
    width = min(rounded(int(lengths.max()), COLUMNS), longest)
    mask = np.arange(width) < lengths[:, None]
    padded = np.full(mask.shape, pad_id, np.int32)
    padded[mask] = np.concatenate(ids)
    return padded, mask
