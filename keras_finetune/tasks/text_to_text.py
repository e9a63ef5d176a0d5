"""What summarisation and translation have in common: a source text, and a target to write."""

import re
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_finetune.data import Examples, Store, Tokenizer, make_dataset, read
from keras_finetune.data.int_checks import checked_int
from keras_finetune.evaluation.text_scores import listed_references
from keras_finetune.generation.generating import generate
from keras_finetune.models.features import backbone_inputs
from keras_finetune.models.smoothed_crossentropy import check_label_smoothing
from keras_finetune.tasks.encoding import encoded_store
from keras_finetune.tasks.fitting import (
    check_backbone,
    check_tokenizer,
    hand_on,
    next_token_model,
    tokenizer_for,
)
from keras_finetune.tasks.language_modeling import compile_for_tokens
from keras_finetune.tasks.text_pairs import PairEncoder, check_filled

# Kana, Han, and their punctuation.
_CJK = r"[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]"
# Quotation marks, dashes and ellipses belong to other languages, too: only beside the former, or
# doubled, as Chinese writes the last two.
_SHARED = r"[\u2014\u2018-\u201d\u2026]"
_BETWEEN_CJK = re.compile(
    rf"(?<={_CJK})\s+(?={_CJK}|{_SHARED})|(?<={_SHARED})\s+(?={_CJK})"
    r"|(?<=\u2014)\s+(?=\u2014)|(?<=\u2026)\s+(?=\u2026)"
)


class TextToText:
    """Encode pairs of texts, train on the second, write it anew.

    `Summarization` and `Translation` each have one of these and hand on what they are asked.

    Args:
        kind: The task's name, of stores and of errors.
        tokenizer: What turns text into token ids, or None until `build`.
        source: Name of the column that is read.
        target: Name of the column that is written.
        max_length: int, tokens of a source.
        max_target_length: int, tokens of a target, its end token included.
        separator: What a decoder-only model reads between source and target.
        label_smoothing: float, share of the whole vocabulary in every label.
        decoder_only: Whether the model is one; None until `build`.
        start_id: int, an encoder-decoder's first token; None for the tokenizer's own.
    """

    def __init__(
        self,
        kind: str,
        tokenizer: Tokenizer | None,
        *,
        source: str,
        target: str,
        max_length: int,
        max_target_length: int,
        separator: str,
        label_smoothing: float,
        decoder_only: bool | None,
        start_id: int | None,
    ) -> None:
        check_tokenizer(tokenizer)
        if source == target:
            raise ValueError(
                f"Source and target must be two columns. Received {source!r} for both."
            )
        check_label_smoothing(label_smoothing)
        self.kind = kind
        self.tokenizer = tokenizer
        self.source = source
        self.target = target
        self.max_length = checked_int("max_length", max_length, 3)
        self.max_target_length = checked_int("max_target_length", max_target_length, 2)
        self.separator = separator
        self.label_smoothing = label_smoothing
        self.decoder_only = decoder_only
        self.start_id = start_id

    def build(
        self, backbone: keras.Model, learning_rate: float, head_args: dict[str, Any]
    ) -> keras.Model:
        """Put a next-token head on a backbone and compile it."""
        tokenizer = tokenizer_for(backbone, self.tokenizer)
        inputs = backbone_inputs(backbone)
        two_sided = isinstance(inputs, dict) and "decoder_token_ids" in inputs
        self._check(backbone, tokenizer, two_sided)
        self.tokenizer, self.decoder_only = tokenizer, not two_sided
        config = getattr(backbone, "pretrained_config", None) or {}
        if two_sided and self.start_id is None:
            self.start_id = config.get("decoder_start_token_id")
        self.encoder()
        model = next_token_model(backbone, head_args)
        hand_on(model, backbone, tokenizer)
        self.compile(model, learning_rate)
        return model

    def compile(self, model: keras.Model, learning_rate: float) -> None:
        """Compile a model with the loss and the accuracy of next tokens."""
        compile_for_tokens(model, learning_rate, self.label_smoothing)

    def dataset(self, examples: Any, **plan_args: Any) -> Any:
        """Encode pairs, once, and return them as a pipeline."""
        store = self._store(read(examples))
        pad_id = self.encoder().pad_id
        if self.decoder_only:
            names = ("token_ids", "next_ids")
            return make_dataset(
                store,
                _prompt_features,
                pad_values=dict.fromkeys(names, pad_id),
                max_length=self.max_length + self.max_target_length,
                **plan_args,
            )
        start_id = self.encoder().start_id

        def features(batch: dict[str, np.ndarray], rng: np.random.Generator) -> tuple[Any, ...]:
            labels, mask = batch["target_ids"], batch["target_ids_mask"]
            first = np.full_like(labels[:, :1], start_id)
            x = {
                "token_ids": batch["token_ids"],
                "padding_mask": batch["padding_mask"],
                "decoder_token_ids": np.concatenate([first, labels[:, :-1]], axis=1),
                "decoder_padding_mask": mask,
            }
            return x, labels, mask.astype(np.float32)

        names = ("token_ids", "target_ids")
        return make_dataset(
            store,
            features,
            ragged=names,
            pad_values=dict.fromkeys(names, pad_id),
            max_length=dict(zip(names, (self.max_length, self.max_target_length), strict=True)),
            **plan_args,
        )

    def predict(self, model: keras.Model, texts: Any, **generation: Any) -> list[str]:
        """Write the target of each source."""
        if isinstance(texts, str):
            raise ValueError("predict takes a list of texts. Received one string: put it in [...].")
        plain = isinstance(texts, list | tuple) and not (texts and isinstance(texts[0], dict))
        if plain and not texts:
            return []
        examples = read({self.source: list(texts)} if plain else texts)
        examples.check_columns([self.source])
        sources = examples.column(self.source)
        check_filled(sources, 0, f"text in column {self.source!r}")
        encoder = self.encoder()
        start_id = None if self.decoder_only else encoder.start_id
        new = generate(
            model,
            [row.tolist() for row in encoder.prompts(sources)],
            **{
                "max_new_tokens": self.max_target_length,
                "end_id": encoder.end_id,
                "start_id": start_id,
                "pad_id": encoder.pad_id,
                **generation,
            },
        )
        return self.decode(new)

    def decode(self, ids: Iterable[Iterable[int]]) -> list[str]:
        """Turn token ids into texts, without spaces between Chinese characters."""
        tokenizer = self.encoder().tokenizer
        return [_BETWEEN_CJK.sub("", tokenizer.decode(row)).strip() for row in ids]

    def pairs(
        self, model: keras.Model, examples: Any, references: str | None, **generation: Any
    ) -> tuple[list[str], list[Any]]:
        """Return what the model writes, and what it should have written."""
        examples = read(examples)
        column = references or self.target
        examples.check_columns([self.source, column])
        expected = examples.column(column)
        listed_references(expected, f"reference in column {column!r}")
        return self.predict(model, examples, **generation), expected

    def encoder(self) -> PairEncoder:
        """Return what turns pairs into token ids, for the kind of model that `build` saw.

        Raises:
            ValueError: There is no tokenizer, it lacks a token, or the kind is not known.
        """
        if self.tokenizer is None:
            raise ValueError(
                "The task has no tokenizer yet. Give it one, or first build it on a backbone from "
                "load_pretrained."
            )
        if self.decoder_only is None:
            raise ValueError(
                "The task does not know yet whether its model is an encoder-decoder: call "
                "build(backbone) before dataset and predict, or give it decoder_only=False (or "
                "True)."
            )
        return PairEncoder(
            self.tokenizer,
            self.decoder_only,
            self.start_id,
            self.max_length,
            self.max_target_length,
            self.separator,
        )

    def _check(self, backbone: keras.Model, tokenizer: Tokenizer, two_sided: bool) -> None:
        if two_sided:
            check_backbone(backbone, tokenizer, self.max_length, self.max_target_length)
            return
        for layer in backbone.layers:
            if getattr(layer, "causal", True) is False:
                raise ValueError(
                    f"{self.kind} needs a model that writes: an encoder-decoder (encoder_decoder, "
                    f"lstm_encoder_decoder, BART from load_pretrained) or a causal one "
                    f"(transformer_decoder, GPT-2, Llama). {layer.name!r} of {backbone.name!r} "
                    f"sees the tokens it would predict."
                )
        check_backbone(backbone, tokenizer, 0)
        together = self.max_length + self.max_target_length
        positions = next(
            (x.max_length for x in backbone.layers if x.name == "position_embedding"), together
        )
        if together > positions:
            room = positions - self.max_target_length
            fix = f"Use a max_length of at most {room}"
            if room < 1:
                fix = f"Use a max_target_length below {positions} and a smaller max_length"
            raise ValueError(
                f"A decoder-only model reads source and target one after the other, here up to "
                f"max_length={self.max_length} and max_target_length={self.max_target_length} "
                f"tokens, but the backbone has only {positions} positions. {fix}, or a backbone "
                "with more positions."
            )

    def _store(self, examples: Examples) -> Store:
        examples.check_columns([self.source, self.target])
        encoder = self.encoder()
        options = {
            "kind": "text_to_text",
            "columns": [self.source, self.target],
            "encoder": encoder.described(),
        }

        def encode(chunk: dict[str, list[Any]], first_row: int) -> dict[str, Any]:
            for name in (self.source, self.target):
                check_filled(chunk[name], first_row, f"text in column {name!r}")
            return encoder.columns(chunk[self.source], chunk[self.target], first_row)

        return encoded_store(examples, encoder.tokenizer, options, encode, total=len(examples))


def _prompt_features(
    batch: dict[str, np.ndarray], rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Count only what comes after the prompt: its last token predicts the target's first."""
    mask = batch["padding_mask"]
    after = np.arange(mask.shape[1]) >= batch["prompt_length"][:, None] - 1
    x = {"token_ids": batch["token_ids"], "padding_mask": mask}
    return x, batch["next_ids"], (mask & after).astype(np.float32)
