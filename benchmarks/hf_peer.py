"""The peer of benchmarks: a text classifier fine-tuned by Hugging Face's usual loop in PyTorch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers


def fine_tune(
    path: Path,
    texts: Sequence[str],
    labels: Sequence[int],
    *,
    num_classes: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    max_length: int,
    seed: int,
) -> tuple[Any, Any]:
    """Fine-tune as the Trainer does by default: AdamW, linear decay, clipping at norm 1.

    Returns:
        The model and its tokenizer.
    """
    transformers.set_seed(seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        path, num_labels=num_classes
    )
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    steps = -(-len(encoded) // batch_size) * epochs
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.0, fused=True)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 0, steps)
    order = np.random.default_rng(seed)
    model.train()
    for epoch in range(epochs):
        shuffled, losses = order.permutation(len(encoded)), []
        for start in range(0, len(encoded), batch_size):
            chosen = shuffled[start : start + batch_size]
            batch = tokenizer.pad({"input_ids": [encoded[i] for i in chosen]}, return_tensors="pt")
            given = torch.tensor([labels[i] for i in chosen])
            loss = model(**batch, labels=given).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        print(f"peer: epoch {epoch + 1}/{epochs}, loss {np.mean(losses):.4f}", flush=True)
    return model.eval(), tokenizer


def predict(
    model: Any, tokenizer: Any, texts: Sequence[str], *, max_length: int, batch_size: int = 64
) -> np.ndarray:
    """Return the class number of each text."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(texts), batch_size):
            batch = tokenizer(
                list(texts[start : start + batch_size]),
                truncation=True,
                max_length=max_length,
                padding=True,
                return_tensors="pt",
            )
            found.append(model(**batch).logits.argmax(dim=-1).numpy())
    return np.concatenate(found)
