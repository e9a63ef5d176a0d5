"""How texts are to be generated, and what of a model and its prompts must be so for that."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import keras
import numpy as np

from keras_finetune.generation.decoder_graph import target_prefix
from keras_finetune.models import PositionEmbedding
from keras_finetune.models.arguments import check_keras_model

_LEAST = {
    "max_new_tokens": 1,
    "num_beams": 1,
    "no_repeat_ngram_size": 0,
    "top_k": 1,
    "seed": 0,
    "batch_size": 1,
}
# Beyond these, logits divided by the one and lengths to the power of the other are infinite.
_LEAST_TEMPERATURE = 1e-6
_MOST_LENGTH_PENALTY = 50


@dataclass(frozen=True)
class Settings:
    """The arguments of `generate` that say how tokens are chosen; see there."""

    max_new_tokens: int
    num_beams: int = 1
    length_penalty: float = 1.0
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    seed: int = 0
    batch_size: int = 1

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is None and name == "top_k":
                continue
            if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
                also = ", or None" if name == "top_k" else ""
                raise ValueError(
                    f"{name} must be an int of at least {least}{also}. Received: {value!r}."
                )
        for name in ("length_penalty", "temperature", "repetition_penalty", "top_p"):
            value = getattr(self, name)
            if value is None and name == "top_p":
                continue
            if not isinstance(value, Real) or not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number. Received: {value!r}.")
        if self.temperature and not self.temperature >= _LEAST_TEMPERATURE:
            raise ValueError(
                "temperature must be 0, which takes the most probable token, or at least "
                f"{_LEAST_TEMPERATURE}. Received: {self.temperature!r}."
            )
        if abs(self.length_penalty) > _MOST_LENGTH_PENALTY:
            raise ValueError(
                f"length_penalty must be from -{_MOST_LENGTH_PENALTY} to {_MOST_LENGTH_PENALTY}; 1 "
                "divides by the length, and 2 favours long texts clearly. Received: "
                f"{self.length_penalty!r}."
            )
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(
                f"top_p must be above 0 and at most 1, or None. Received: {self.top_p!r}."
            )
        if not self.repetition_penalty > 0:
            raise ValueError(
                f"repetition_penalty must be above 0; 1 is none, 1.2 a usual one. Received: "
                f"{self.repetition_penalty!r}."
            )
        if not self.temperature and (self.top_k, self.top_p) != (None, None):
            raise ValueError(
                "top_k and top_p are for sampling, which temperature=0 does not do. Give a "
                "temperature, such as 1.0, too."
            )
        if self.temperature and self.num_beams > 1:
            raise ValueError(
                f"Beam search does not sample. Give num_beams={self.num_beams} or temperature="
                f"{self.temperature}, not both."
            )


def check_model(model: keras.Model) -> None:
    """Refuse a model that does not predict next tokens.

    Args:
        model: Any model.

    Raises:
        ValueError: It has no logits for each token, or sees the tokens that it would predict.
    """
    fix = (
        "Generation needs a language model: build it with tasks.LanguageModeling, Summarization or "
        "Translation, models.language_model(backbone), or load_pretrained(path, head=True) of a "
        "GPT-type, BART or T5 checkpoint."
    )
    check_keras_model("Generation", model)
    inputs = getattr(model, "input", None)
    if not isinstance(inputs, dict) or "token_ids" not in inputs:
        raise ValueError(f"The model {model.name!r} has no input token_ids. {fix}")
    outputs = model.outputs
    if len(outputs) != 1 or len(outputs[0].shape) != 3:
        shapes = [tuple(x.shape) for x in outputs]
        raise ValueError(
            f"The outputs of {model.name!r} are {shapes}, not logits of each token's successor "
            f"(batch, length, vocab_size). {fix}"
        )
    vocab_size = outputs[0].shape[-1]
    for layer in _layers(model):
        tokens = getattr(layer, "input_dim", vocab_size)
        if layer.name == "token_embedding" and tokens != vocab_size:
            raise ValueError(
                f"{model.name!r} gives {vocab_size} numbers a token, but knows {tokens} tokens: it "
                f"has no head that predicts them. {fix}"
            )
        encodes = layer.name.startswith("encoder_") and target_prefix(model)
        if getattr(layer, "causal", True) is False and not encodes:
            raise ValueError(
                f"{layer.name!r} of {model.name!r} sees later tokens, so that the model is an "
                f"encoder and cannot continue a text. {fix}"
            )
    known = [
        prefix + name
        for prefix in sorted({"", target_prefix(model)})
        for name in ("token_ids", "padding_mask")
    ]
    unknown = sorted(set(inputs) - set(known))
    if unknown:
        raise ValueError(
            f"Generation gives a model {', '.join(known)}. Received {model.name!r}, which has the "
            f"inputs {', '.join(unknown)} as well. Compute them inside the model, from the others."
        )


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model and of those within it."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def check_lengths(model: keras.Model, prompts: Sequence[np.ndarray], settings: Settings) -> None:
    """Refuse prompts that are empty, or longer than the model's positions.

    Args:
        model: A language model.
        prompts: Token ids, of the source if there is an encoder.
        settings: Say how many tokens are added.

    Raises:
        ValueError: They do not fit.
    """
    empty = [number for number, prompt in enumerate(prompts) if len(prompt) == 0]
    if empty:
        raise ValueError(
            f"Prompt {empty[0]} has no tokens, so that there is nothing to continue. Give it at "
            "least the tokenizer's bos token."
        )
    longest, new = max(map(len, prompts)), settings.max_new_tokens
    if target_prefix(model):
        positions = most_positions(model, source=True)
        if longest > positions:
            raise ValueError(
                f"{model.name!r} has {positions} positions for a source, but the longest has "
                f"{longest} tokens. Cut it off, or use a model with more positions."
            )
        longest = 1
    positions = most_positions(model, source=False)
    needed = longest + new - 1  # The last new token is not read again.
    if needed > positions:
        fix = f"Use max_new_tokens={positions - longest + 1}"
        if longest > positions:
            fix = "Use shorter prompts"
        raise ValueError(
            f"{model.name!r} has {positions} positions, but {longest} tokens and max_new_tokens="
            f"{new} need {needed}. {fix}, or use a model with more positions."
        )


def most_positions(model: keras.Model, *, source: bool) -> Any:
    """Return how many positions a model has a vector for.

    Args:
        model: A language model.
        source: Whether the encoder's are meant.

    Returns:
        int; infinity if positions are not learned.
    """
    found = [
        layer.max_length
        for layer in _layers(model)
        if isinstance(layer, PositionEmbedding) and (source == layer.name.startswith("encoder_"))
    ]
    return min(found, default=float("inf"))


def end_ids_of(end_id: Any, tokenizer: Any, vocab_size: int) -> tuple[int, ...]:
    """Return the tokens that end a text: those given, else the tokenizer's own.

    Args:
        end_id: int, several of them, or None; -1 is no token.
        tokenizer: The model's `keras_finetune.data.Tokenizer`, or None.
        vocab_size: int, tokens that the model knows.

    Raises:
        ValueError: There is none, or the model does not know it.
    """
    if end_id is None:
        known = (getattr(tokenizer, name, None) for name in ("eos_id", "sep_id"))
        end_id = next((number for number in known if number is not None), None)
    if end_id is None:
        raise ValueError(
            "It is not known which token ends a text: the tokenizer has no eos or sep token. Give "
            "end_id, a token id; end_id=-1 lets no token end it."
        )
    end_id = end_id.tolist() if isinstance(end_id, np.ndarray) else end_id
    ends = (end_id,) if isinstance(end_id, Integral) else end_id
    if (
        isinstance(ends, str)
        or not isinstance(ends, Iterable)
        or not all(isinstance(each, Integral) for each in ends)
    ):
        raise ValueError(f"end_id must be a token id, or several. Received: {end_id!r}.")
    for each in ends:
        if each != -1:
            check_token("end_id", each, vocab_size, ", or -1 for none")
    return tuple(map(int, ends))


def check_token(name: str, value: Any, vocab_size: int, also: str = "") -> None:
    """Refuse an argument that is no token of a model.

    Args:
        name: The argument's name.
        value: What was received.
        vocab_size: int, tokens that the model knows.
        also: What else it may be.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(value, Integral) or not 0 <= int(value) < vocab_size:
        raise ValueError(
            f"{name} must be a token id that the model knows, from 0 to {vocab_size - 1}{also}. "
            f"Received: {value!r}."
        )
