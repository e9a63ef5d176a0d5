"""What takes part in the benchmark of the Embedding+LSTM baseline; see `contestants.py`."""

import os
from typing import Any

import numpy as np
from news_contestants import CLIP, Turns, batches_of


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
        for chosen in batches_of(lengths, job["batch_size"], rng, grouped=True):
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


def _tokenizer(job: dict[str, Any]) -> Any:
    from keras_finetune.data import Tokenizer

    return Tokenizer.train(job["texts"], job["vocab_size"], "wordpiece", progress=False)
