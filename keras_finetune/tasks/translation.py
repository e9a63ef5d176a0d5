"""Translation: a text in one language in, the same in another out."""

from collections.abc import Iterable
from typing import Any

import keras

from keras_finetune.data import Tokenizer
from keras_finetune.evaluation import TranslationScores, translation_scores
from keras_finetune.tasks.text_to_text import TextToText


class Translation:
    """Write a text in another language.

    The model is an encoder-decoder (`encoder_decoder`, `lstm_encoder_decoder`) or a decoder-only
    one (`transformer_decoder`, GPT-2, Llama), which reads source and separator and goes on with the
    translation. Either learns from the translation's tokens alone. One tokenizer serves both
    languages: train it on the texts of both.

    Args:
        tokenizer: What turns text into token ids. Default: the pretrained backbone's own, once
            the task has been built on one.
        source: Name of the column to translate.
        target: Name of the column with the translations.
        target_language: The language to write, as `"zh"`, which says how BLEU counts words; see
            `translation_scores`. Default: `target`.
        max_length: int, tokens after which a source is cut off; of a decoder-only model, with the
            separator.
        max_target_length: int, tokens after which a translation is cut off or ended.
        separator: What a decoder-only model reads between source and translation.
        label_smoothing: float from 0 to below 1, share of each label that the whole vocabulary has.
        decoder_only: Whether the model is one; None until `build`, which sees it.
        start_id: int, the token that an encoder-decoder's decoder starts with; None for what the
            checkpoint's config says, else the tokenizer's bos or cls.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> import keras_finetune as kft
        >>> rows = {"en": ["one", "two"] * 8, "zh": ["一", "二"] * 8}
        >>> tokenizer = kft.data.Tokenizer.train(
        ...     rows["en"] + rows["zh"], vocab_size=300, progress=False)
        >>> task = kft.tasks.Translation(tokenizer, max_length=16, max_target_length=8)
        >>> backbone = kft.models.lstm_encoder_decoder(tokenizer.vocab_size, hidden_dim=16)
        >>> tuner = kft.FineTuner(task.build(backbone))
        >>> history = tuner.fit(task.dataset(rows), epochs=2, verbose=0)
        >>> len(task.predict(tuner.model, ["two"]))
        1
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None = None,
        *,
        source: str = "en",
        target: str = "zh",
        target_language: str | None = None,
        max_length: int = 64,
        max_target_length: int = 64,
        separator: str = "\n\n= ",
        label_smoothing: float = 0.1,
        decoder_only: bool | None = None,
        start_id: int | None = None,
    ) -> None:
        self.target_language = target if target_language is None else target_language
        self._pairs = TextToText(
            "Translation",
            tokenizer,
            source=source,
            target=target,
            max_length=max_length,
            max_target_length=max_target_length,
            separator=separator,
            label_smoothing=label_smoothing,
            decoder_only=decoder_only,
            start_id=start_id,
        )

    @property
    def tokenizer(self) -> Tokenizer | None:
        """What turns text into token ids."""
        return self._pairs.tokenizer

    def build(
        self, backbone: keras.Model, *, learning_rate: float = 1e-3, **head_args: Any
    ) -> keras.Model:
        """Put a next-token head on a backbone and compile the model with its loss.

        Args:
            backbone: An encoder-decoder or a causal model; one that has its next-token head
                already, as from `load_pretrained(path, head=True)`, keeps it.
            learning_rate: float, AdamW's, until `FineTuner.compile` says otherwise.
            **head_args: Further arguments of `keras_finetune.models.language_model`.

        Returns:
            A Keras model that gives logits, (batch, length, vocab_size) float32.

        Raises:
            ValueError: The backbone cannot write, or does not fit the tokenizer or the lengths.
        """
        return self._pairs.build(backbone, learning_rate, head_args)

    def compile(self, model: keras.Model, *, learning_rate: float = 1e-3) -> None:
        """Compile a model with this task's loss and metrics, as `build` does.

        Args:
            model: Gives logits, (batch, length, vocab_size).
            learning_rate: float, AdamW's, until `FineTuner.compile` says otherwise.
        """
        self._pairs.compile(model, learning_rate)

    def dataset(
        self,
        examples: Any,
        *,
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int = 0,
        tokens_per_batch: int | None = None,
    ) -> Any:
        """Encode texts and translations, once, and return them as a `tf.data` pipeline.

        Args:
            examples: `Examples`, or whatever `keras_finetune.data.read` takes.
            batch_size: int, rows in a batch.
            shuffle: Whether every epoch has an order of its own; a function of seed and epoch.
            seed: int.
            tokens_per_batch: int, tokens in a batch, about, of both sides together, in place of
                `batch_size`.

        Returns:
            A `tf.data.Dataset` of `(x, next token ids, weights)`. For an encoder-decoder `x` is
            `{"token_ids", "padding_mask"}`, (batch, length), and `{"decoder_token_ids",
            "decoder_padding_mask"}`, (batch, target length) like ids and weights; else the
            first two, as long as ids and weights. Ids are int32, masks bool; weights are float32,
            0 on padding and on what a decoder-only model is given.

        Raises:
            ValueError: A column is missing, or a text is empty or none.
        """
        return self._pairs.dataset(
            examples,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            tokens_per_batch=tokens_per_batch,
        )

    def predict(
        self, model: keras.Model, texts: Any, *, num_beams: int = 1, **generation: Any
    ) -> list[str]:
        """Translate texts.

        Args:
            model: From `build`.
            texts: A list of texts, or examples with the task's source column.
            num_beams: int, beams of the search; 1 is greedy.
            **generation: Further arguments of `keras_finetune.generation.generate`.

        Returns:
            A translation of each, in order.
        """
        return self._pairs.predict(model, texts, num_beams=num_beams, **generation)

    def decode(self, ids: Iterable[Iterable[int]]) -> list[str]:
        """Turn token ids into texts.

        Args:
            ids: Token ids of each text, int.
        """
        return self._pairs.decode(ids)

    def evaluate(
        self,
        model: keras.Model,
        examples: Any,
        *,
        references: str | None = None,
        num_beams: int = 1,
        **generation: Any,
    ) -> TranslationScores:
        """Translate texts and compare with their translations by BLEU and chrF.

        Args:
            model: From `build`.
            examples: Texts and translations, as for `dataset`.
            references: Another column to compare with, whose values may be lists of translations.
            num_beams: int, beams of the search.
            **generation: Further arguments of `keras_finetune.generation.generate`.

        Returns:
            Both scores, and the signature to give with them.
        """
        written, expected = self._pairs.pairs(
            model, examples, references, num_beams=num_beams, **generation
        )
        return translation_scores(written, expected, target_language=self.target_language)

    def get_config(self) -> dict[str, Any]:
        """Return what the task was made with, but for the tokenizer."""
        return {
            "max_length": self._pairs.max_length,
            "max_target_length": self._pairs.max_target_length,
            "source": self._pairs.source,
            "target": self._pairs.target,
            "target_language": self.target_language,
            "separator": self._pairs.separator,
            "label_smoothing": self._pairs.label_smoothing,
            "decoder_only": self._pairs.decoder_only,
            "start_id": self._pairs.start_id,
        }
