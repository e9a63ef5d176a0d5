"""What takes part in the benchmarks of MiniLM on AG News; see `contestants.py`."""

import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from weights import minilm_folder

LEARNING_RATE, CLIP = 5e-5, 1.0
Turns = Iterator[dict[str, Any]]


def keras_finetune(job: dict[str, Any]) -> Turns:
    """This library: `fit` for the job's epochs, each turn."""
    import keras

    import keras_finetune as kft

    task = kft.tasks.TextClassification(job["names"], max_length=job["max_length"])
    rows = {"text": job["texts"], "label": [job["names"][i] for i in job["labels"]]}

    def tuner() -> kft.FineTuner:
        keras.utils.set_random_seed(0)
        backbone = kft.load_pretrained(minilm_folder())
        # The peers' head: the first token, and BERT's pooler, which they freeze with the backbone.
        pooler = backbone.output_shape[-1] if job["train"] == "all" else None
        made = kft.FineTuner(task.build(backbone, pooling="first", hidden_dim=pooler))
        optimizer = keras.optimizers.AdamW(LEARNING_RATE, global_clipnorm=CLIP)
        more = {"jit_compile": job["jit_compile"]} if "jit_compile" in job else {}
        made.compile(optimizer, precision="mixed_bfloat16", **more)
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


def fit_compiled(job: dict[str, Any]) -> Turns:
    """This library, its step compiled by XLA, or by `torch.compile` on PyTorch."""
    yield from keras_finetune(job | {"jit_compile": True})


def fit_plain(job: dict[str, Any]) -> Turns:
    """This library, its step not compiled as a whole."""
    yield from keras_finetune(job | {"jit_compile": False})


def kerashub_fit(job: dict[str, Any]) -> Turns:
    """KerasHub as its guide shows: raw texts into `fit`."""
    yield from _kerashub(job, "float32")


def kerashub_bf16(job: dict[str, Any]) -> Turns:
    """The same with Keras's policy `mixed_bfloat16`."""
    yield from _kerashub(job, "mixed_bfloat16")


def _kerashub(job: dict[str, Any], policy: str) -> Turns:
    import keras
    import keras_hub

    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    folder = str(minilm_folder())
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
    import torch
    import transformers

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    folder = minilm_folder()
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
            for chosen in batches_of(lengths, job["batch_size"], rng, grouped=grouped):
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


def batches_of(
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
