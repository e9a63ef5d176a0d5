"""The peer of `quality_question_answering.py`: what Hugging Face's run_qa example does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

N_BEST, MAX_ANSWER_LENGTH = 20, 30
BATCHES_A_GROUP = 50


def fine_tune(
    path: Path,
    rows: Sequence[dict[str, Any]],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    max_length: int,
    stride: int,
    precision: str,
    seed: int,
) -> tuple[Any, Any]:
    """Fine-tune with AdamW, linear decay, clipping at norm 1, in batches of similar lengths."""
    transformers.set_seed(seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    # With dropout, "eager" takes less time on a CPU than "sdpa", and computes the same.
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(
        path, attn_implementation="eager"
    )
    encoded = _encode(tokenizer, rows, max_length, stride)
    spans = torch.tensor([_span(encoded, i, rows) for i in range(len(encoded["input_ids"]))])
    steps = -(-len(spans) // batch_size) * epochs
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.0, fused=True)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 0, steps)
    lengths = np.array([len(ids) for ids in encoded["input_ids"]])
    order = np.random.default_rng(seed)
    model.train()
    for epoch in range(epochs):
        losses = []
        for chosen in _batches(lengths, batch_size, order):
            first, last = spans[chosen].T
            batch = _batch(tokenizer, encoded, chosen)
            with _computing_in(precision):
                loss = model(**batch, start_positions=first, end_positions=last).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        print(f"peer: epoch {epoch + 1}/{epochs}, loss {np.mean(losses):.4f}", flush=True)
    return model.eval(), tokenizer


def predict(
    model: Any,
    tokenizer: Any,
    rows: Sequence[dict[str, Any]],
    *,
    max_length: int,
    stride: int,
    precision: str,
) -> list[str]:
    """Return the best answer to each question over all of its windows."""
    encoded = _encode(tokenizer, rows, max_length, stride)
    best: list[tuple[float, str]] = [(-np.inf, "")] * len(rows)
    for begin in range(0, len(encoded["input_ids"]), 64):
        chosen = range(begin, min(begin + 64, len(encoded["input_ids"])))
        with torch.inference_mode(), _computing_in(precision):
            found = model(**_batch(tokenizer, encoded, chosen))
        both = (x.float().numpy() for x in (found.start_logits, found.end_logits))
        logits = zip(chosen, *both, strict=True)
        for i, starts, ends in logits:
            row = encoded["overflow_to_sample_mapping"][i]
            offsets, kinds = encoded["offset_mapping"][i], encoded.sequence_ids(i)
            for first in np.argsort(starts)[-N_BEST:]:
                for last in np.argsort(ends)[-N_BEST:]:
                    if not first <= last < min(first + MAX_ANSWER_LENGTH, len(kinds)):
                        continue
                    if (
                        kinds[first] == kinds[last] == 1
                        and starts[first] + ends[last] > best[row][0]
                    ):
                        text = rows[row]["context"][offsets[first][0] : offsets[last][1]]
                        best[row] = (starts[first] + ends[last], text)
    return [text for _, text in best]


def _computing_in(precision: str) -> Any:
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "mixed_bfloat16")


def _encode(tokenizer: Any, rows: Sequence[dict[str, Any]], max_length: int, stride: int) -> Any:
    return tokenizer(
        [row["question"].strip() for row in rows],
        [row["context"] for row in rows],
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )


def _batches(lengths: np.ndarray, batch_size: int, order: np.random.Generator) -> list[np.ndarray]:
    """Return the row numbers of an epoch's batches, each of rows of similar length."""
    shuffled = order.permutation(len(lengths))
    size = BATCHES_A_GROUP * batch_size
    found = []
    for start in range(0, len(shuffled), size):
        group = shuffled[start : start + size]
        group = group[np.argsort(lengths[group], kind="stable")]
        found += [group[i : i + batch_size] for i in range(0, len(group), batch_size)]
    order.shuffle(found)
    return found


def _batch(tokenizer: Any, encoded: Any, chosen: Sequence[int]) -> Any:
    names = [name for name in ("input_ids", "token_type_ids", "attention_mask") if name in encoded]
    return tokenizer.pad(
        {name: [encoded[name][i] for i in chosen] for name in names}, return_tensors="pt"
    )


def _span(encoded: Any, i: int, rows: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """Return the answer's first and last token; those of [CLS] where a window lacks it."""
    answers = rows[encoded["overflow_to_sample_mapping"][i]]["answers"]
    start = answers["answer_start"][0]
    end = start + len(answers["text"][0])
    offsets, kinds = encoded["offset_mapping"][i], encoded.sequence_ids(i)
    context = [k for k, kind in enumerate(kinds) if kind == 1]
    if offsets[context[0]][0] > start or offsets[context[-1]][1] < end:
        return 0, 0
    first = max(k for k in context if offsets[k][0] <= start)
    return first, min(k for k in context if offsets[k][1] >= end)
