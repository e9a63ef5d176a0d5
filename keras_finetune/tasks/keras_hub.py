"""Data for KerasHub's models: tokenized once, cached, and padded to a few widths."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_finetune.data import Ragged, make_dataset, read
from keras_finetune.data.text_checks import check_texts
from keras_finetune.tasks.arguments import text_columns
from keras_finetune.tasks.encoding import encoded_store
from keras_finetune.tasks.labels import class_numbers

_TASKS = {"TextClassifier", "CausalLM"}  # Their classes in KerasHub, which need not be installed.


@dataclass(frozen=True)
class _Preprocessor:
    """A KerasHub preprocessor, and what identifies it."""

    layer: Any
    fingerprint: str


def keras_hub_dataset(
    model: keras.Model,
    examples: Any,
    *,
    labels: Sequence[str] | None = None,
    text: "str | tuple[str, str]" = "text",
    label: str = "label",
    batch_size: int = 32,
    tokens_per_batch: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
) -> Any:
    """Run a KerasHub task's preprocessor over examples, once, and return batches for `FineTuner`.

    Keras's own `fit` with a preprocessor tokenizes in every epoch and pads every text to the full
    length. Here what the preprocessor gives is stored without its padding, found again by the
    next run, and padded to the few widths of the plan. `FineTuner` does not run the preprocessor
    on it a second time.

    Args:
        model: A `keras_hub` text classifier or causal language model with a `preprocessor`:
            `BertTextClassifier`, `GPT2CausalLM`, ... `FineTuner` takes other tasks with raw data.
        examples: `Examples`, or whatever `keras_finetune.data.read` takes.
        labels: The name of each class, for a classifier. Default: none, as for a language model,
            whose preprocessor makes the labels.
        text: Name of the text column, or a pair of names for pairs of texts.
        label: Name of the label column.
        batch_size: int, rows in a batch.
        tokens_per_batch: int, tokens in a batch, padding included, in place of `batch_size`.
        shuffle: Whether every epoch has an order of its own.
        seed: int.

    Returns:
        A `tf.data.Dataset` of `(x, y)` or `(x, y, sample_weight)`, as the preprocessor gives them.

    Raises:
        ValueError: The model is another task or has no preprocessor, a column is missing, a text
            is no text, or a label is not one of the labels.
    """
    preprocessor = _preprocessor(model)
    examples = read(examples)
    columns = text_columns(text)
    examples.check_columns([*columns, label] if labels else columns)

    def encode(chunk: dict[str, list[Any]], first_row: int) -> dict[str, Any]:
        for name in columns:
            check_texts(chunk[name], first_row, f"text in column {name!r}")
        texts = [list(chunk[name]) for name in columns]
        given = tuple(texts) if len(texts) > 1 else texts[0]
        x, y, weights = keras.utils.unpack_x_y_sample_weight(preprocessor.layer(given))
        arrays = {name: np.asarray(value) for name, value in x.items()}
        arrays |= {"target": np.asarray(y)} if y is not None else {}
        arrays |= {"weight": np.asarray(weights)} if weights is not None else {}
        found = _without_padding(arrays)
        if labels:
            found["label"] = class_numbers(chunk[label], labels, column=label, first_row=first_row)
        return found

    options = {
        "kind": "keras_hub",
        "text": list(columns),
        "label": label,
        "labels": list(labels or ()),
    }
    store = encoded_store(examples, preprocessor, options, encode, total=len(examples))

    def features(batch: dict[str, np.ndarray], rng: np.random.Generator) -> tuple[Any, ...]:
        y = batch.pop("label", None) if labels else batch.pop("target", None)
        weight = batch.pop("weight", None)
        parts = (batch, y, weight) if weight is not None else (batch, y)
        return parts if y is not None else (batch,)

    pad_id = getattr(preprocessor.layer.tokenizer, "pad_token_id", None) or 0
    dataset = make_dataset(
        store,
        features,
        batch_size=batch_size,
        tokens_per_batch=tokens_per_batch,
        shuffle=shuffle,
        seed=seed,
        pad_values={"token_ids": pad_id, "target": pad_id},
    )
    dataset.preprocessed = True
    if labels:
        dataset.label_counts = np.bincount(store.column("label"), minlength=len(labels))
    return dataset


def _preprocessor(model: keras.Model) -> _Preprocessor:
    kinds = {kind.__name__ for kind in type(model).__mro__}
    if "Seq2SeqLM" in kinds or kinds.isdisjoint(_TASKS):  # A Seq2SeqLM is a CausalLM, too.
        raise ValueError(
            "keras_hub_dataset takes KerasHub's text classifiers and causal language models. "
            f"Received: {model!r:.80}, a {type(model).__name__}. Give its raw data to "
            "FineTuner(model).fit, which runs a KerasHub task's preprocessor as Keras does."
        )
    layer = getattr(model, "preprocessor", None)
    tokenizer = getattr(layer, "tokenizer", None)
    if tokenizer is None:
        raise ValueError(
            f"The model {model.name!r} has no preprocessor with a tokenizer. Make the KerasHub "
            "task with preprocessor=..., or by from_preset."
        )
    # A tokenizer's config leaves out its vocabulary, which is in a file beside it.
    described = [
        keras.saving.serialize_keras_object(layer),
        list(tokenizer.get_vocabulary()),
        [str(merge) for merge in getattr(tokenizer, "merges", None) or ()],
    ]
    text = json.dumps(described, sort_keys=True, default=str)
    return _Preprocessor(layer, hashlib.sha256(text.encode()).hexdigest())


def _without_padding(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Turn (rows, length) arrays into ragged columns, cut where `padding_mask` ends."""
    mask = arrays.pop("padding_mask").astype(bool)
    # To the last real token: a preprocessor may pad in the middle, where it must stay.
    length = mask.shape[1]
    ends = np.maximum(length - mask[:, ::-1].argmax(axis=1), 1)
    ends[~mask.any(axis=1)] = 1
    kept = np.arange(length) < ends[:, None]
    offsets = np.concatenate([[0], np.cumsum(ends)])
    return {name: Ragged(value[kept], offsets) for name, value in arrays.items()}
