"""Text classification: news, mail, sentiment, pairs of texts, one label or several."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_finetune.data import Examples, Store, Tokenizer, make_dataset, read
from keras_finetune.data.int_checks import checked_int
from keras_finetune.data.text_checks import check_texts
from keras_finetune.evaluation import ClassificationReport, F1Score, classification_report
from keras_finetune.models import text_classifier
from keras_finetune.models.arguments import check_flag, check_keras_model
from keras_finetune.tasks.arguments import label_names, text_columns
from keras_finetune.tasks.encoding import encoded_store, token_columns
from keras_finetune.tasks.fitting import (
    check_backbone,
    check_classes,
    check_tokenizer,
    hand_on,
    takes_segment_ids,
    tokenizer_for,
)
from keras_finetune.tasks.labels import are_vectors, class_numbers, multi_hot
from keras_finetune.tasks.prediction import Prediction, check_outputs, decode
from keras_finetune.tuning.data_kinds import as_keras_reads
from keras_finetune.tuning.kernels import predictions_worth_compiling


class TextClassification:
    """Tell which of some labels a text has.

    Args:
        labels: The name of each class, in the order of class numbers.
        tokenizer: What turns text into token ids. Default: the pretrained backbone's own, once
            the task has been built on one.
        max_length: int, tokens after which a text is cut off.
        text: Name of the text column, or a pair of names for pairs of texts.
        label: Name of the label column: label names, class numbers, or with `multi_label` lists of
            them, or vectors with a 0 or 1 for each label.
        multi_label: Whether a text may have several labels, or none.
        segment_ids: Whether data sets say which of two texts a token is in; None until `build`,
            which sees whether the backbone takes them.

    Example:
        >>> import keras_finetune as kft
        >>> rows = {"text": ["good film", "bad film"] * 8, "label": ["pos", "neg"] * 8}
        >>> tokenizer = kft.data.Tokenizer.train(rows["text"], vocab_size=300, progress=False)
        >>> task = kft.tasks.TextClassification(["neg", "pos"], tokenizer, max_length=16)
        >>> backbone = kft.models.lstm_encoder(tokenizer.vocab_size, hidden_dim=16)
        >>> tuner = kft.FineTuner(task.build(backbone))
        >>> history = tuner.fit(task.dataset(rows), epochs=2, verbose=0)
        >>> task.predict(tuner.model, ["good film"])[0].label in task.labels
        True
    """

    def __init__(
        self,
        labels: Sequence[str],
        tokenizer: Tokenizer | None = None,
        *,
        max_length: int = 256,
        text: "str | tuple[str, str]" = "text",
        label: str = "label",
        multi_label: bool = False,
        segment_ids: bool | None = None,
    ) -> None:
        check_flag(multi_label=multi_label)
        check_tokenizer(tokenizer)
        self.labels = label_names(labels, least=1 if multi_label else 2)
        self.tokenizer = tokenizer
        self.max_length = checked_int("max_length", max_length, 3)
        self.text = text_columns(text)
        self.label = label
        self.multi_label = bool(multi_label)
        self.segment_ids = segment_ids

    def build(
        self, backbone: keras.Model, *, learning_rate: float = 1e-3, **head_args: Any
    ) -> keras.Model:
        """Put a classification head on a backbone and compile the model with loss and metrics.

        Args:
            backbone: From a builder in `keras_finetune.models`.
            learning_rate: float, AdamW's, until `FineTuner.compile` says otherwise.
            **head_args: Further arguments of `keras_finetune.models.text_classifier`: `pooling`,
                `dropout`, ...

        Returns:
            A Keras model that gives logits, (batch, classes) float32.

        Raises:
            ValueError: The backbone does not fit the tokenizer or `max_length`.
        """
        tokenizer = tokenizer_for(backbone, self.tokenizer)
        check_backbone(backbone, tokenizer, self.max_length)
        self.tokenizer, self.segment_ids = tokenizer, takes_segment_ids(backbone)
        if len(self.labels) == 1:  # a single yes or no
            head_args = {"activation": "sigmoid", **head_args}
        model = text_classifier(backbone, len(self.labels), **head_args)
        hand_on(model, backbone, tokenizer, self.labels)
        self.compile(model, learning_rate=learning_rate)
        return model

    def compile(self, model: keras.Model, *, learning_rate: float = 1e-3) -> None:
        """Compile a model with this task's loss and metrics, as `build` does.

        Args:
            model: Gives logits or probabilities, (batch, classes).
            learning_rate: float, AdamW's, until `FineTuner.compile` says otherwise.
        """
        model.multi_label = self.multi_label  # `save_pretrained` writes it.
        probabilities = _gives_probabilities(model)
        threshold = 0.5 if probabilities else 0.0
        kind = keras.losses.BinaryCrossentropy
        accuracy: Any = keras.metrics.BinaryAccuracy(name="accuracy", threshold=threshold)
        if not self.multi_label:
            kind = keras.losses.SparseCategoricalCrossentropy
            accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        f1 = F1Score(
            len(self.labels), multi_label=self.multi_label, threshold=threshold, name="macro_f1"
        )
        model.compile(
            keras.optimizers.AdamW(learning_rate),
            loss=kind(from_logits=not probabilities),
            metrics=[accuracy, f1],
        )

    def dataset(
        self,
        examples: Any,
        *,
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int = 0,
        tokens_per_batch: int | None = None,
    ) -> Any:
        """Encode labelled examples, once, and return them as a `tf.data` pipeline.

        Args:
            examples: `Examples`, or whatever `keras_finetune.data.read` takes.
            batch_size: int, rows in a batch.
            shuffle: Whether every epoch has an order of its own; a function of seed and epoch.
            seed: int.
            tokens_per_batch: int, tokens in a batch, padding included, in place of `batch_size`.

        Returns:
            A `tf.data.Dataset` of `({"token_ids": (batch, length) int32, "padding_mask": (batch,
            length) bool}, labels)`, with `"segment_ids"` for pairs; labels are (batch,) int64, or
            (batch, classes) float32 with `multi_label`.

        Raises:
            ValueError: A column is missing, a text is no text, or a label is not one of the task's.
        """
        store = self._store(read(examples))
        segment_ids = len(self.text) == 2 if self.segment_ids is None else self.segment_ids
        return self._pipeline(
            store,
            segment_ids,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            tokens_per_batch=tokens_per_batch,
        )

    def predict(self, model: keras.Model, texts: Any, *, batch_size: int = 64) -> list[Prediction]:
        """Classify texts.

        Args:
            model: From `build`.
            texts: A list, an array, a pandas Series or any iterable of texts (of pairs, if the task
                has two text columns), or examples with the task's text columns.
            batch_size: int, texts computed at a time.

        Returns:
            A prediction for each text, in order.
        """
        if isinstance(texts, str):
            raise ValueError("predict takes a list of texts. Received one string: put it in [...].")
        check_keras_model("The task", model)
        check_classes(model, self.labels)
        texts = texts.tolist() if isinstance(texts, np.ndarray) else texts
        if isinstance(texts, Iterable) and not _is_table(texts):
            texts = list(texts)
        if isinstance(texts, list | tuple) and not (texts and isinstance(texts[0], dict)):
            if not texts:
                return []
            pairs = len(self.text) == 2
            if pairs and not all(isinstance(x, list | tuple) and len(x) == 2 for x in texts):
                raise ValueError(
                    f"The task takes pairs of texts, {self.text}: give predict a list of "
                    f"(text, text). Received: {texts[:2]!r}"
                )
            columns = zip(*texts, strict=True) if pairs else [texts]
            texts = {name: list(part) for name, part in zip(self.text, columns, strict=True)}
        examples = read(texts)
        with tempfile.TemporaryDirectory() as directory:
            store = self._store(examples, labelled=False, directory=Path(directory))
            return self.decode(self._outputs(model, store, batch_size))

    def evaluate(
        self, model: keras.Model, examples: Any, *, batch_size: int = 64
    ) -> ClassificationReport:
        """Compare a model's predictions with the labels.

        Args:
            model: From `build`.
            examples: Labelled examples, as for `dataset`.
            batch_size: int, texts computed at a time.

        Returns:
            Accuracy, macro, micro and weighted F1, a table by class, the confusion matrix.
        """
        check_keras_model("The task", model)
        check_classes(model, self.labels)
        store = self._store(read(examples))
        probabilities = self._outputs(model, store, batch_size)
        labels = store.column("label")[:]
        predicted = probabilities if self.multi_label else probabilities.argmax(axis=1)
        return classification_report(labels, predicted, label_names=self.labels)

    def decode(self, probabilities: np.ndarray) -> list[Prediction]:
        """Turn probabilities into label names.

        Args:
            probabilities: (rows, classes) float.
        """
        return decode(probabilities, self.labels, multi_label=self.multi_label)

    def get_config(self) -> dict[str, Any]:
        """Return what the task was made with, but for the tokenizer."""
        return {
            "labels": self.labels,
            "max_length": self.max_length,
            "text": self.text[0] if len(self.text) == 1 else list(self.text),
            "label": self.label,
            "multi_label": self.multi_label,
            "segment_ids": self.segment_ids,
        }

    def _store(
        self, examples: Examples, *, labelled: bool = True, directory: Path | None = None
    ) -> Store:
        tokenizer = self._tokenizer()
        examples.check_columns([*self.text, self.label] if labelled else self.text)
        options = {"kind": "text_classification", "labelled": labelled, **self.get_config()}
        del options["segment_ids"]  # They are in the store in any case.
        vectors = labelled and self.multi_label and self._has_vectors(examples)
        if vectors:
            options["vectors"] = True

        def encode(chunk: dict[str, list[Any]], first_row: int) -> dict[str, Any]:
            for name in self.text:
                check_texts(chunk[name], first_row, f"text in column {name!r}")
            encoded = tokenizer.encode_batch(
                *(chunk[name] for name in self.text), max_length=self.max_length
            )
            columns = token_columns(encoded, tokenizer)
            if labelled:
                place: dict[str, Any] = {"column": self.label, "first_row": first_row}
                columns["label"] = (
                    multi_hot(chunk[self.label], self.labels, vectors=vectors, **place)
                    if self.multi_label
                    else class_numbers(chunk[self.label], self.labels, **place)
                )
            return columns

        total = len(examples)
        return encoded_store(examples, tokenizer, options, encode, total=total, directory=directory)

    def _has_vectors(self, examples: Examples) -> bool:
        rows = (row for chunk in examples.chunks() for row in chunk[self.label])
        return are_vectors(rows, self.labels, column=self.label)

    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise ValueError(
                "The task has no tokenizer yet. Give it one, TextClassification(labels, "
                "tokenizer), or first build it on a backbone from load_pretrained."
            )
        return self.tokenizer

    def _pipeline(self, store: Store, segment_ids: bool, **plan_args: Any) -> Any:
        def features(batch: dict[str, np.ndarray], rng: np.random.Generator) -> tuple[Any, ...]:
            x = {name: batch[name] for name in ("token_ids", "padding_mask")}
            if segment_ids:
                x["segment_ids"] = batch.get("segment_ids", np.zeros_like(x["token_ids"]))
            return (x, batch["label"]) if "label" in batch else (x,)

        pad_values = {"token_ids": self._tokenizer().pad_id or 0}
        dataset = make_dataset(
            store, features, pad_values=pad_values, max_length=self.max_length, **plan_args
        )
        if "label" in store.columns and not self.multi_label:
            dataset.label_counts = np.bincount(store.column("label"), minlength=len(self.labels))
        return dataset

    def _outputs(self, model: keras.Model, store: Store, batch_size: int) -> np.ndarray:
        """Probabilities of the rows of a store, in order."""
        # Batches of similar length pad little; the plan says where each row belongs.
        segment_ids = takes_segment_ids(model)
        dataset = self._pipeline(store, segment_ids, batch_size=batch_size, shuffle=True)
        dataset = dataset.start_at(0)
        plan = dataset.plan(0)
        order = np.concatenate([batch.rows for batch in plan])
        outputs = np.empty((store.num_rows, len(self.labels)), np.float32)
        with predictions_worth_compiling(model, plan):
            outputs[order] = model.predict(as_keras_reads(dataset, model), verbose=0)
        check_outputs(outputs)
        if _gives_probabilities(model):
            return outputs
        to_probabilities = keras.ops.sigmoid if self.multi_label else keras.ops.softmax
        return keras.ops.convert_to_numpy(to_probabilities(outputs))


def _gives_probabilities(model: keras.Model) -> bool:
    activation = getattr(model.layers[-1], "activation", None)
    return activation in (keras.activations.softmax, keras.activations.sigmoid)


def _is_table(source: Any) -> bool:
    # Examples and pandas data frames have columns, a tf.data.Dataset has an element_spec.
    signs = ("columns", "element_spec")
    return isinstance(source, Mapping) or any(hasattr(source, sign) for sign in signs)
