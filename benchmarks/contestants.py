"""What takes part in the benchmarks: this library and its peers, each at the same jobs.

Run by `side_by_side.py`: `python contestants.py NAME`, a job as a line of JSON on standard input,
then a line for each turn. Each generator prepares itself up to its first yield, and does one turn
between two yields; it yields what is to be said of the turn.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

LEARNING_RATE, CLIP = 5e-5, 1.0
Turns = Iterator[dict[str, Any]]


def keras_finetune(job: dict[str, Any]) -> Turns:
    """This library: `fit` for the job's epochs, each turn."""
    import keras
    import quality

    import keras_finetune as kft

    task = kft.tasks.TextClassification(job["names"], max_length=job["max_length"])
    rows = {"text": job["texts"], "label": [job["names"][i] for i in job["labels"]]}

    def tuner() -> kft.FineTuner:
        keras.utils.set_random_seed(0)
        made = kft.FineTuner(task.build(kft.load_pretrained(quality.minilm_folder())))
        optimizer = keras.optimizers.AdamW(LEARNING_RATE, global_clipnorm=CLIP)
        made.compile(optimizer, precision="mixed_bfloat16")
        if job["train"] != "all":
            made.freeze("backbone")
        if job["train"] == "top 2":
            made.unfreeze("backbone", top=2)
        return made

    chosen = tuner()
    data = task.dataset(rows, batch_size=job["batch_size"], seed=0)
    padding = round(data.plan(0).padding_share, 3)
    yield {}
    while True:
        first = FirstStep()
        history = chosen.fit(data, epochs=job["epochs"], callbacks=[first.callback()], verbose=0)
        yield {
            "samples": len(job["texts"]) * job["epochs"],
            "loss": history.history["loss"][-1],
            "padding": padding,
            "first_step_seconds": first.seconds,
        }
        if job["afresh"]:
            chosen = tuner()


def kerashub_fit(job: dict[str, Any]) -> Turns:
    """KerasHub as its guide shows: raw texts into `fit`."""
    yield from _kerashub(job, "float32")


def kerashub_bf16(job: dict[str, Any]) -> Turns:
    """The same with Keras's policy `mixed_bfloat16`."""
    yield from _kerashub(job, "mixed_bfloat16")


def _kerashub(job: dict[str, Any], policy: str) -> Turns:
    import keras
    import keras_hub
    import quality

    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    folder = str(quality.minilm_folder())
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor.from_preset(
        folder, sequence_length=job["max_length"]
    )
    model = keras_hub.models.BertTextClassifier.from_preset(
        folder, num_classes=len(job["names"]), preprocessor=preprocessor
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(LEARNING_RATE, global_clipnorm=CLIP),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    texts, labels = np.array(job["texts"]), np.array(job["labels"])
    yield {}
    while True:
        first = FirstStep()
        history = model.fit(
            texts,
            labels,
            batch_size=job["batch_size"],
            epochs=job["epochs"],
            callbacks=[first.callback()],
            verbose=0,
        )
        yield {
            "samples": len(texts) * job["epochs"],
            "loss": history.history["loss"][-1],
            "first_step_seconds": first.seconds,
        }


def hf_dynamic(job: dict[str, Any]) -> Turns:
    """Hugging Face's loop in bfloat16, each batch padded to its longest row."""
    yield from _hugging_face(job, grouped=False)


def hf_grouped(job: dict[str, Any]) -> Turns:
    """The same with rows of similar length in a batch, as the Trainer's `group_by_length`."""
    yield from _hugging_face(job, grouped=True)


def _hugging_face(job: dict[str, Any], *, grouped: bool) -> Turns:
    import quality
    import torch
    import transformers

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    folder = quality.minilm_folder()
    transformers.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    given = tokenizer(job["texts"], truncation=True, max_length=job["max_length"])["input_ids"]
    lengths = np.array([len(ids) for ids in given])
    labels = torch.tensor(job["labels"])
    rng = np.random.default_rng(0)

    def start() -> tuple[Any, Any]:
        transformers.set_seed(0)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=len(job["names"])
        ).train()
        if job["train"] != "all":
            model.base_model.requires_grad_(False)
        if job["train"] == "top 2":
            for layer in model.base_model.encoder.layer[-2:]:
                layer.requires_grad_(True)
        trained = [x for x in model.parameters() if x.requires_grad]
        return model, torch.optim.AdamW(trained, LEARNING_RATE, fused=True)

    model, optimizer = start()
    yield {}
    while True:
        started, first = time.perf_counter(), None
        tokens = 0
        for _ in range(job["epochs"]):
            losses = []
            for chosen in _batches(lengths, job["batch_size"], rng, grouped=grouped):
                batch = tokenizer.pad(
                    {"input_ids": [given[i] for i in chosen]}, return_tensors="pt"
                )
                tokens += batch["input_ids"].numel()
                with torch.autocast("cpu", torch.bfloat16):
                    loss = model(**batch, labels=labels[chosen]).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
                optimizer.step()
                optimizer.zero_grad()
                losses.append(loss.item())
                first = first or time.perf_counter() - started
        yield {
            "samples": len(given) * job["epochs"],
            "loss": float(np.mean(losses)),
            "padding": round(1 - lengths.sum() * job["epochs"] / tokens, 3),
            "first_step_seconds": round(first or 0.0, 2),
        }
        if job["afresh"]:
            model, optimizer = start()


def keras_finetune_lstm(job: dict[str, Any]) -> Turns:
    """This library's Embedding+LSTM."""
    import keras

    import keras_finetune as kft

    keras.utils.set_random_seed(0)
    tokenizer = _tokenizer(job)
    task = kft.tasks.TextClassification(job["names"], tokenizer, max_length=job["max_length"])
    backbone = kft.models.lstm_encoder(
        tokenizer.vocab_size, job["width"], embedding_dim=job["width"], dropout=0.0
    )
    tuner = kft.FineTuner(task.build(backbone, pooling="last", dropout=0.0))
    tuner.compile(keras.optimizers.Adam(job["learning_rate"], global_clipnorm=CLIP))
    rows = {"text": job["texts"], "label": [job["names"][i] for i in job["labels"]]}
    data = task.dataset(rows, batch_size=job["batch_size"], seed=0)
    yield {}
    while True:
        loss = tuner.fit(data, verbose=0).history["loss"][-1]
        padding = round(data.plan(0).padding_share, 3)
        yield {"samples": len(job["texts"]), "loss": loss, "padding": padding}


def keras_lstm(job: dict[str, Any]) -> Turns:
    """Plain Keras: `TextVectorization`, padded arrays, Embedding with a mask, LSTM, `fit`."""
    import keras

    keras.utils.set_random_seed(0)
    vectorize = keras.layers.TextVectorization(
        job["vocab_size"], output_sequence_length=job["max_length"]
    )
    vectorize.adapt(job["texts"])
    ids = np.array(vectorize(job["texts"]))
    model = keras.Sequential(
        [
            keras.layers.Embedding(job["vocab_size"], job["width"], mask_zero=True),
            keras.layers.LSTM(job["width"]),
            keras.layers.Dense(len(job["names"])),
        ]
    )
    model.compile(
        keras.optimizers.Adam(job["learning_rate"], global_clipnorm=CLIP),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    labels = np.array(job["labels"])
    yield {}
    while True:
        history = model.fit(ids, labels, batch_size=job["batch_size"], verbose=0).history
        padding = round(float((ids == 0).mean()), 3)
        yield {"samples": len(ids), "loss": history["loss"][-1], "padding": padding}


def torch_lstm(job: dict[str, Any]) -> Turns:
    """PyTorch's `nn.LSTM`, rows of similar length in a batch."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    tokenizer, width = _tokenizer(job), job["width"]
    encoded = tokenizer.encode_batch(job["texts"], max_length=job["max_length"])
    ids, lengths = list(encoded), encoded.lengths
    labels = torch.tensor(job["labels"])
    embedding = torch.nn.Embedding(tokenizer.vocab_size, width)
    lstm = torch.nn.LSTM(width, width, batch_first=True)
    head = torch.nn.Linear(width, len(job["names"]))
    weights = [*embedding.parameters(), *lstm.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(weights, job["learning_rate"], fused=True)
    rng = np.random.default_rng(0)
    yield {}
    while True:
        losses, tokens = [], 0
        for chosen in _batches(lengths, job["batch_size"], rng, grouped=True):
            batch = torch.zeros((len(chosen), int(lengths[chosen].max())), dtype=torch.long)
            for row, number in enumerate(chosen):
                batch[row, : lengths[number]] = torch.from_numpy(ids[number].astype(np.int64))
            tokens += batch.numel()
            states, _ = lstm(embedding(batch))
            last = states[torch.arange(len(chosen)), torch.from_numpy(lengths[chosen]) - 1]
            loss = torch.nn.functional.cross_entropy(head(last), labels[chosen])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, CLIP)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        padding = round(1 - lengths.sum() / tokens, 3)
        yield {"samples": len(ids), "loss": float(np.mean(losses)), "padding": padding}


def keras_finetune_pipeline(job: dict[str, Any]) -> Turns:
    """Texts to batches: encoded into a store once, then read."""
    import tempfile

    import quality

    import keras_finetune as kft

    tokenizer = kft.data.Tokenizer.load(quality.minilm_folder())
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
    import quality
    import tensorflow as tf

    preprocessor = keras_hub.models.BertTextClassifierPreprocessor.from_preset(
        str(quality.minilm_folder()), sequence_length=job["max_length"]
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
    import quality
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(quality.minilm_folder())
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


def _tokenizer(job: dict[str, Any]) -> Any:
    from keras_finetune.data import Tokenizer

    return Tokenizer.train(job["texts"], job["vocab_size"], "wordpiece", progress=False)


def _batches(
    lengths: np.ndarray, size: int, rng: np.random.Generator, *, grouped: bool
) -> Iterator[np.ndarray]:
    order = rng.permutation(len(lengths))
    if not grouped:
        for start in range(0, len(order), size):
            yield order[start : start + size]
        return
    # Sorted by length within 50 batches, the longest first, as Hugging Face does.
    for start in range(0, len(order), 50 * size):
        part = order[start : start + 50 * size]
        part = part[np.argsort(-lengths[part], kind="stable")]
        for first in range(0, len(part), size):
            yield part[first : first + size]


class FirstStep:
    """How long `fit` takes to its first step's end.

    Attributes:
        seconds: So many.
    """

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.seconds = 0.0

    def callback(self) -> Any:
        """Return a Keras callback that stops the clock."""
        import keras

        def stop(batch: int, logs: Any = None) -> None:
            self.seconds = self.seconds or round(time.perf_counter() - self._started, 2)

        return keras.callbacks.LambdaCallback(on_train_batch_end=stop)


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    answer, sys.stdout = sys.stdout, sys.stderr  # What else is printed must not be read as answers.
    import generation_contestants
    import quality_contestants

    known = globals() | vars(generation_contestants) | vars(quality_contestants)
    turns = known[sys.argv[1]](json.loads(sys.stdin.readline()))
    said = next(turns)
    while True:
        said["peak_memory_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
        print(json.dumps(said), file=answer, flush=True)
        if not sys.stdin.readline():
            return
        started = time.perf_counter()
        said = next(turns)
        said["seconds"] = round(time.perf_counter() - started, 2)


if __name__ == "__main__":
    main()
