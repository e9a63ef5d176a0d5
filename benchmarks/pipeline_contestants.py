"""What takes part in the benchmark of the pipeline; see `contestants.py`."""

import os
from collections.abc import Iterator
from typing import Any

from weights import minilm_folder

Turns = Iterator[dict[str, Any]]


def keras_finetune_pipeline(job: dict[str, Any]) -> Turns:
    """Texts to batches: encoded into a store once, then read."""
    import tempfile

    import keras_finetune as kft

    tokenizer = kft.data.Tokenizer.load(minilm_folder())
    task = kft.tasks.TextClassification(job["names"], tokenizer, max_length=job["max_length"])
    rows = {"text": job["texts"], "label": [job["names"][i] for i in job["labels"]]}
    yield {}
    while True:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["KERAS_FINETUNE_CACHE"] = folder
            data = task.dataset(rows, batch_size=job["batch_size"])
            count = sum(len(y) for _ in range(job["epochs"]) for _, y in data.as_numpy_iterator())
        yield {"samples": count}


def kerashub_preprocessor(job: dict[str, Any]) -> Turns:
    """Texts to batches: a `tf.data` pipeline that maps KerasHub's preprocessor."""
    import keras_hub
    import tensorflow as tf

    preprocessor = keras_hub.models.BertTextClassifierPreprocessor.from_preset(
        str(minilm_folder()), sequence_length=job["max_length"]
    )
    data = tf.data.Dataset.from_tensor_slices((job["texts"], job["labels"]))
    data = data.shuffle(len(job["texts"])).batch(job["batch_size"])
    data = data.map(preprocessor, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    yield {}
    while True:
        count = sum(len(y) for _ in range(job["epochs"]) for _, y in data.as_numpy_iterator())
        yield {"samples": count}


def hf_datasets(job: dict[str, Any]) -> Turns:
    """Texts to batches: `datasets.map` once, then a collator that pads."""
    import datasets
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm_folder())
    datasets.disable_caching()
    datasets.disable_progress_bars()

    def encode(rows: dict[str, Any]) -> Any:
        return tokenizer(rows["text"], truncation=True, max_length=job["max_length"])

    yield {}
    while True:
        rows = datasets.Dataset.from_dict({"text": job["texts"], "label": job["labels"]})
        rows = rows.map(encode, batched=True, remove_columns="text")
        loader = torch.utils.data.DataLoader(
            rows,
            batch_size=job["batch_size"],
            shuffle=True,
            collate_fn=transformers.DataCollatorWithPadding(tokenizer),
        )
        count = sum(len(batch["labels"]) for _ in range(job["epochs"]) for batch in loader)
        yield {"samples": count}
