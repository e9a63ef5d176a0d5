"""Masked language modelling: predict tokens that were hidden."""

import math
from typing import Any

import keras
import numpy as np

from keras_finetune.data import Tokenizer, make_dataset
from keras_finetune.data.int_checks import checked_int
from keras_finetune.models import masked_language_model
from keras_finetune.models.arguments import check_flag
from keras_finetune.tasks.fitting import (
    check_backbone,
    check_packing,
    check_tokenizer,
    hand_on,
    takes_segment_ids,
)
from keras_finetune.tasks.language_modeling import compile_for_tokens, read_texts
from keras_finetune.tasks.text_blocks import blocks_store, packed_store
from keras_finetune.tasks.whole_words import WholeWords
from keras_finetune.tasks.word_perplexity import perplexities


class MaskedLanguageModeling:
    """Predict hidden tokens from both sides, the pretraining of BERT.

    Of the chosen tokens 80% become the mask token, 10% a random one, 10% stay (Devlin et al. 2019,
    https://arxiv.org/abs/1810.04805); they are chosen anew in every epoch (RoBERTa, Liu et al.
    2019, https://arxiv.org/abs/1907.11692).

    Args:
        tokenizer: What turns text into token ids; needs a mask token.
        max_length: int, tokens of a row.
        text: Name of the text column.
        mask_rate: float, share of the tokens that are predicted, special ones never; the number a
            row is rounded by chance, and at least one.
        whole_word: Whether the pieces of a word are chosen together, or none of them; a little
            less than `mask_rate` is then predicted, since words are passed over that are too long.
        separate_texts: Whether a text sees only itself, also where several share a row; for
            transformers. Otherwise texts are one stream, cut into rows.
        segment_ids: Whether data sets say which of two texts a token is in (the first, always);
            None until `build`, which sees whether the backbone takes them.

    Example:
        >>> import keras_finetune as kft
        >>> texts = {"text": ["the cat sat on the mat", "the dog sat on the log"] * 20}
        >>> tokenizer = kft.data.Tokenizer.train(texts["text"], vocab_size=300, progress=False)
        >>> task = kft.tasks.MaskedLanguageModeling(tokenizer, max_length=16)
        >>> backbone = kft.models.transformer_encoder(
        ...     tokenizer.vocab_size, num_layers=1, num_heads=2, hidden_dim=16, max_length=16)
        >>> model = task.build(backbone)
        >>> history = kft.FineTuner(model).fit(task.dataset(texts), epochs=1, verbose=0)
        >>> sorted(history.history)
        ['accuracy', 'loss']
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        max_length: int = 128,
        text: str = "text",
        mask_rate: float = 0.15,
        whole_word: bool = False,
        separate_texts: bool = False,
        segment_ids: bool | None = None,
    ) -> None:
        check_tokenizer(tokenizer, may_come_later=False)
        check_flag(whole_word=whole_word, separate_texts=separate_texts)
        if tokenizer.mask_id is None:
            raise ValueError(
                "The tokenizer has no mask token. Train one with Tokenizer.train, or load one of "
                "the BERT family; for a GPT tokenizer use LanguageModeling."
            )
        if not 0 < mask_rate < 1:
            raise ValueError(f"mask_rate must be between 0 and 1. Received: {mask_rate!r}")
        self.tokenizer = tokenizer
        self.max_length = checked_int("max_length", max_length, 1)
        self.text = text
        self.mask_rate = mask_rate
        self.whole_word = bool(whole_word)
        self._words = WholeWords(tokenizer) if whole_word else None
        self.separate_texts = bool(separate_texts)
        self.segment_ids = segment_ids

    def build(
        self, backbone: keras.Model, *, learning_rate: float = 1e-3, **head_args: Any
    ) -> keras.Model:
        """Put a masked-language-model head on a backbone and compile the model with its loss.

        Args:
            backbone: From `transformer_encoder`, or any that sees both sides.
            learning_rate: float, AdamW's, until `FineTuner.compile` says otherwise.
            **head_args: Further arguments of `keras_finetune.models.masked_language_model`.
        """
        check_backbone(backbone, self.tokenizer, self.max_length)
        if self.separate_texts:
            check_packing(backbone)
        self.segment_ids = takes_segment_ids(backbone)
        model = masked_language_model(backbone, **head_args)
        hand_on(model, backbone, self.tokenizer)
        self.compile(model, learning_rate=learning_rate)
        return model

    def compile(self, model: keras.Model, *, learning_rate: float = 1e-3) -> None:
        """Compile a model with this task's loss and metrics, as `build` does.

        Args:
            model: Gives logits, (batch, masked, vocabulary).
            learning_rate: float, AdamW's, until `FineTuner.compile` says otherwise.
        """
        compile_for_tokens(model, learning_rate)

    def dataset(
        self, examples: Any, *, batch_size: int = 32, shuffle: bool = True, seed: int = 0
    ) -> Any:
        """Encode text, once, and return masked rows as a `tf.data` pipeline.

        Args:
            examples: `Examples`, or whatever `keras_finetune.data.read` takes; a sequence of texts
                too.
            batch_size: int, rows in a batch.
            shuffle: Whether every epoch has an order of its own.
            seed: int; decides what is masked, too.

        Returns:
            A `tf.data.Dataset` of `({"token_ids", "padding_mask", "mask_positions"}, hidden token
            ids, weights)`: (batch, max_length) twice, then (batch, masked) three times; with
            `"segment_ids"` for backbones that take them. Weights are 0 where a row has fewer
            hidden tokens than others.
        """
        texts = read_texts(examples, self.text)
        if self.separate_texts:
            store = packed_store(texts, self.tokenizer, self.text, self.max_length, next_ids=False)
        else:
            store = blocks_store(texts, self.tokenizer, self.text, self.max_length)
        # Less a little: for Python 0.07 * 100 is more than 7.
        masked = max(1, math.ceil(self.mask_rate * self.max_length - 1e-9))
        tokens = map(self.tokenizer.token_to_id, self.tokenizer.special_tokens.values())
        special = np.array([number for number in tokens if number is not None], np.int32)

        def features(batch: dict[str, np.ndarray], rng: np.random.Generator) -> tuple[Any, ...]:
            ids = batch["token_ids"]
            starts = batch.get("text_starts", np.ones_like(ids))
            ordinary = (starts > 0) & ~np.isin(ids, special)
            # The others are chosen last, and count for nothing.
            drawn = np.where(ordinary, rng.random(ids.shape), 2.0)
            most = ordinary.sum(axis=1, keepdims=True)
            # Rounded by chance, so that the mean is the rate.
            share = np.floor(self.mask_rate * most + rng.random(most.shape))
            share = np.minimum(np.maximum(share, 1), most)
            if self._words is not None:
                limit = np.minimum(share[:, 0], masked).astype(int)
                together = self._words.choose(ids, np.where(ordinary, starts, 0), limit, rng)
                drawn = np.where(together, -1.0, drawn)
                share = together.sum(axis=1, keepdims=True)
            chosen = drawn.argsort(axis=1)[:, :masked]
            counted = np.arange(chosen.shape[1]) < share
            order = chosen.argsort(axis=1)
            positions = np.take_along_axis(chosen, order, axis=1).astype(np.int32)
            counted = np.take_along_axis(counted, order, axis=1)
            hidden = np.take_along_axis(ids, positions, axis=1)
            draw = rng.random(hidden.shape)
            shown = np.where(draw < 0.8, self.tokenizer.mask_id, hidden)
            random_ids = rng.integers(0, self.tokenizer.vocab_size, hidden.shape)
            shown = np.where(draw >= 0.9, random_ids, shown).astype(ids.dtype)
            shown = np.where(counted, shown, hidden)
            ids = ids.copy()
            np.put_along_axis(ids, positions, shown, axis=1)
            x = {"token_ids": ids, "padding_mask": starts, "mask_positions": positions}
            if self.segment_ids:
                x["segment_ids"] = np.zeros_like(ids)
            return x, hidden, counted.astype(np.float32)

        return make_dataset(
            store,
            features,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            max_length=self.max_length,
        )

    def evaluate(
        self, model: keras.Model, examples: Any, *, batch_size: int = 32
    ) -> dict[str, float]:
        """Return how well hidden tokens of held-out text are predicted.

        Args:
            model: From `build`.
            examples: Text, as for `dataset`.
            batch_size: int, rows computed at a time.

        Returns:
            `loss` (nats a hidden token), `accuracy`, `perplexity` (a hidden token) and
            `word_perplexity`. The latter two are no perplexities of the text as a whole, since
            hidden tokens are predicted from both sides; compare them among masked models.
        """
        texts = read_texts(examples, self.text)
        dataset = self.dataset(texts, batch_size=batch_size, shuffle=False)
        # Of the first epoch always: on JAX, Keras reads a new model's data once more.
        first = dataset.start_at(0)
        found: dict[str, float] = model.evaluate(first, return_dict=True, verbose=0)
        return {**found, **perplexities(found["loss"], texts, self.tokenizer, self.text)}

    def get_config(self) -> dict[str, Any]:
        """Return what the task was made with, but for the tokenizer."""
        return {
            "max_length": self.max_length,
            "text": self.text,
            "mask_rate": self.mask_rate,
            "whole_word": self.whole_word,
            "separate_texts": self.separate_texts,
            "segment_ids": self.segment_ids,
        }
