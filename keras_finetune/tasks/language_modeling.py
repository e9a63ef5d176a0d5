"""Language modelling: predict the next token of plain text."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_finetune.data import Tokenizer, make_dataset, read
from keras_finetune.data.int_checks import checked_int
from keras_finetune.models.arguments import check_flag
from keras_finetune.models.smoothed_crossentropy import SmoothedCrossentropy
from keras_finetune.models.token_accuracy import TokenAccuracy
from keras_finetune.tasks.fitting import (
    check_backbone,
    check_packing,
    check_tokenizer,
    hand_on,
    next_token_model,
)
from keras_finetune.tasks.text_blocks import blocks_store, packed_store
from keras_finetune.tasks.word_perplexity import perplexities


class LanguageModeling:
    """Predict the next token, the pretraining of GPT (Radford et al. 2018).

    Texts are strung together with a separator between them and cut into rows of equal length, so
    that nothing is padding. With `separate_texts` short texts share a row too, but none sees
    another, and each counts its positions from its own beginning.

    Args:
        tokenizer: What turns text into token ids.
        max_length: int, tokens of a row.
        text: Name of the text column.
        separate_texts: Whether a text sees only itself; for transformers.

    Example:
        >>> import keras_finetune as kft
        >>> texts = {"text": ["the cat sat on the mat", "the dog sat on the log"] * 20}
        >>> tokenizer = kft.data.Tokenizer.train(texts["text"], vocab_size=300, progress=False)
        >>> task = kft.tasks.LanguageModeling(tokenizer, max_length=16)
        >>> backbone = kft.models.transformer_decoder(
        ...     tokenizer.vocab_size, num_layers=1, num_heads=2, hidden_dim=16, max_length=16)
        >>> model = task.build(backbone)
        >>> history = kft.FineTuner(model).fit(task.dataset(texts), epochs=1, verbose=0)
        >>> task.evaluate(model, texts)["perplexity"] < tokenizer.vocab_size
        True
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        max_length: int = 128,
        text: str = "text",
        separate_texts: bool = False,
    ) -> None:
        check_tokenizer(tokenizer, may_come_later=False)
        check_flag(separate_texts=separate_texts)
        self.tokenizer = tokenizer
        self.max_length = checked_int("max_length", max_length, 1)
        self.text = text
        self.separate_texts = bool(separate_texts)

    def build(
        self, backbone: keras.Model, *, learning_rate: float = 1e-3, **head_args: Any
    ) -> keras.Model:
        """Put a next-token head on a backbone and compile the model with its loss.

        Args:
            backbone: From `transformer_decoder`, or `lstm_encoder` in one direction; or a language
                model from `load_pretrained(path, head=True)`, which keeps its head.
            learning_rate: float, AdamW's, until `FineTuner.compile` says otherwise.
            **head_args: Further arguments of `keras_finetune.models.language_model`.
        """
        check_backbone(backbone, self.tokenizer, self.max_length)
        if self.separate_texts:
            check_packing(backbone)
        model = next_token_model(backbone, head_args)
        hand_on(model, backbone, self.tokenizer)
        self.compile(model, learning_rate=learning_rate)
        return model

    def compile(self, model: keras.Model, *, learning_rate: float = 1e-3) -> None:
        """Compile a model with this task's loss and metrics, as `build` does.

        Args:
            model: Gives logits, (batch, max_length, vocabulary).
            learning_rate: float, AdamW's, until `FineTuner.compile` says otherwise.
        """
        compile_for_tokens(model, learning_rate)

    def dataset(
        self, examples: Any, *, batch_size: int = 32, shuffle: bool = True, seed: int = 0
    ) -> Any:
        """Encode text, once, and return rows and their next tokens as a `tf.data` pipeline.

        Args:
            examples: `Examples`, or whatever `keras_finetune.data.read` takes; a sequence of texts
                too.
            batch_size: int, rows in a batch.
            shuffle: Whether every epoch has an order of its own.
            seed: int.

        Returns:
            A `tf.data.Dataset` of `({"token_ids", "padding_mask"}, next token ids)`, each (batch,
            max_length); with `separate_texts`, (batch, length) and weights of the same shape, 0
            where there is padding.
        """
        if self.separate_texts:
            return self._packed(examples, batch_size=batch_size, shuffle=shuffle, seed=seed)
        store = blocks_store(
            read_texts(examples, self.text), self.tokenizer, self.text, self.max_length + 1
        )

        def features(batch: dict[str, np.ndarray], rng: np.random.Generator) -> tuple[Any, ...]:
            ids = batch["token_ids"]
            return {"token_ids": ids[:, :-1], "padding_mask": np.ones_like(ids[:, 1:], bool)}, ids[
                :, 1:
            ]

        return make_dataset(store, features, batch_size=batch_size, shuffle=shuffle, seed=seed)

    def _packed(self, examples: Any, **options: Any) -> Any:
        texts = read_texts(examples, self.text)
        store = packed_store(texts, self.tokenizer, self.text, self.max_length, next_ids=True)

        def features(batch: dict[str, np.ndarray], rng: np.random.Generator) -> tuple[Any, ...]:
            starts = batch["text_starts"]
            x = {"token_ids": batch["token_ids"], "padding_mask": starts}
            return x, batch["next_ids"], (starts > 0).astype(np.float32)

        return make_dataset(store, features, max_length=self.max_length, **options)

    def evaluate(
        self, model: keras.Model, examples: Any, *, batch_size: int = 32
    ) -> dict[str, float]:
        """Return how well held-out text is predicted.

        Args:
            model: From `build`.
            examples: Text, as for `dataset`.
            batch_size: int, rows computed at a time.

        Returns:
            `loss` (nats a token), `accuracy`, `perplexity` (a token) and `word_perplexity`, which
            models with different tokenizers have in common: of what stands between white space,
            and of each character of Chinese and Japanese.
        """
        texts = read_texts(examples, self.text)
        dataset = self.dataset(texts, batch_size=batch_size, shuffle=False)
        found = model.evaluate(dataset, return_dict=True, verbose=0)
        return {**found, **perplexities(found["loss"], texts, self.tokenizer, self.text)}

    def get_config(self) -> dict[str, Any]:
        """Return what the task was made with, but for the tokenizer."""
        return {
            "max_length": self.max_length,
            "text": self.text,
            "separate_texts": self.separate_texts,
        }


def read_texts(examples: Any, column: str) -> Any:
    """Read examples, of which a plain sequence of texts is one more form."""
    plain = isinstance(examples, Sequence) and not isinstance(examples, str)
    if plain and examples and isinstance(examples[0], str):
        examples = {column: list(examples)}
    return read(examples)


def compile_for_tokens(
    model: keras.Model, learning_rate: float, label_smoothing: float = 0.0
) -> None:
    """Compile a model whose outputs are logits of the vocabulary, one set a token."""
    # The mean over tokens that count, so that padding and packing do not change it.
    reduction = "mean_with_sample_weight"
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    if label_smoothing:
        loss = SmoothedCrossentropy(label_smoothing, reduction)
    model.compile(
        keras.optimizers.AdamW(learning_rate),
        loss=loss,
        weighted_metrics=[TokenAccuracy(name="accuracy")],
    )
