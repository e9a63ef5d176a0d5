"""What takes part in the benchmarks of quality; see `contestants.py`."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

Turns = Iterator[dict[str, Any]]
PEAK_RATE, LAST_RATE, WARMUP_STEPS = 1e-3, 1e-4, 100


def language_model_ours(job: dict[str, Any]) -> Turns:
    """This library: a character tokenizer and the blocks of `LanguageModeling`."""
    import keras

    import keras_finetune as kft

    tokenizer = kft.data.Tokenizer.train(
        [job["train"]],
        256,
        "char",
        lowercase=False,
        min_frequency=1,
        special_tokens=["[UNK]"],
        progress=False,
    )
    task = kft.tasks.LanguageModeling(tokenizer, max_length=job["length"])
    data = task.dataset([job["train"]], batch_size=job["batch_size"])
    yield {}
    while True:
        started = time.perf_counter()
        keras.utils.set_random_seed(0)
        backbone = kft.models.transformer_decoder(
            tokenizer.vocab_size,
            job["layers"],
            job["heads"],
            job["width"],
            max_length=job["length"],
            activation="gelu",
            use_bias=False,
            dropout=0.0,
        )
        tuner = kft.FineTuner(task.build(backbone))
        optimizer = keras.optimizers.AdamW(beta_2=0.99, weight_decay=0.1, global_clipnorm=1.0)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        rate = keras.optimizers.schedules.CosineDecay(
            0.0,
            job["steps"] - WARMUP_STEPS,
            alpha=LAST_RATE / PEAK_RATE,
            warmup_target=PEAK_RATE,
            warmup_steps=WARMUP_STEPS,
        )
        tuner.compile(optimizer, learning_rate=rate)
        tuner.fit(data.repeat(), steps_per_epoch=job["steps"], verbose=0)
        seconds = round(time.perf_counter() - started, 1)
        scores = task.evaluate(tuner.model, [job["validation"]], batch_size=256)
        yield {"loss": scores["loss"], "fit_seconds": seconds}


def language_model_torch(job: dict[str, Any]) -> Turns:
    """The same model in plain PyTorch, on random pieces of the text."""
    import torch
    import torch_language_model as peer

    torch.set_num_threads(2)
    known = {character: i for i, character in enumerate(sorted(set(job["train"])))}
    ids = {
        part: torch.tensor([known.get(character, 0) for character in job[part]])
        for part in ("train", "validation")
    }
    yield {}
    while True:
        started = time.perf_counter()
        torch.manual_seed(0)
        model = peer.LanguageModel(
            len(known), job["layers"], job["heads"], job["width"], job["length"]
        )
        matrices = [x for x in model.parameters() if x.dim() > 1]
        others = [x for x in model.parameters() if x.dim() == 1]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0}]
        optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.99), fused=True)
        for step in range(job["steps"]):
            for group in optimizer.param_groups:
                group["lr"] = _rate(step, job["steps"])
            at = torch.randint(len(ids["train"]) - job["length"], (job["batch_size"], 1))
            rows = ids["train"][at + torch.arange(job["length"] + 1)]
            model.loss(rows).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        seconds = round(time.perf_counter() - started, 1)
        rows = ids["validation"]
        rows = rows[: len(rows) // (job["length"] + 1) * (job["length"] + 1)]
        with torch.inference_mode():
            losses = [
                (model.loss(batch).item(), len(batch))
                for batch in rows.view(-1, job["length"] + 1).split(256)
            ]
        total = sum(loss * size for loss, size in losses) / sum(size for _, size in losses)
        yield {"loss": total, "fit_seconds": seconds}


def _rate(step: int, steps: int) -> float:
    if step < WARMUP_STEPS:
        return PEAK_RATE * (step + 1) / WARMUP_STEPS
    share = (step - WARMUP_STEPS) / (steps - WARMUP_STEPS)
    return LAST_RATE + 0.5 * (1 + np.cos(np.pi * share)) * (PEAK_RATE - LAST_RATE)
