"""What takes part in the benchmark on a GPU; see `contestants.py`.

This library runs on JAX. Its peer is Hugging Face's loop in PyTorch: autocast to bfloat16, its
default attention (SDPA), batches made by worker processes, and no waiting for the GPU within an
epoch. `hf_gpu_compiled` is the same through `torch.compile`.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from generation_contestants import smollm2_tokenizer
from news_contestants import CLIP, LEARNING_RATE, Turns, batches_of, keras_finetune
from weights import minilm_folder, smollm2_file

LORA_RATE = 1e-4
# As many weights either way: 30 layers of 14 * (576 + 960), or of 8 * (1152 + 2 * 768).
FUSED_RANK, RANK = 14, 8


def keras_finetune_gpu(job: dict[str, Any]) -> Turns:
    """This library: all of MiniLM-L6."""
    for said in keras_finetune(job):
        yield said | _jax_memory()


def hf_gpu(job: dict[str, Any]) -> Turns:
    """Hugging Face: all of MiniLM-L6, rows of similar length in a batch."""
    yield from _minilm(job, lambda model: model)


def hf_gpu_compiled(job: dict[str, Any]) -> Turns:
    """The same, compiled."""
    import torch

    yield from _minilm(job, lambda model: torch.compile(model, dynamic=True))


def _minilm(job: dict[str, Any], prepare: Callable[[Any], Any]) -> Turns:
    import torch
    import transformers

    folder = minilm_folder()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    given = tokenizer(job["texts"], truncation=True, max_length=job["max_length"])["input_ids"]
    lengths = np.array([len(ids) for ids in given])
    rows = [{"input_ids": ids, "labels": y} for ids, y in zip(given, job["labels"], strict=True)]
    transformers.set_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=len(job["names"])
    )
    model.to("cuda").train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, fused=True)
    collate = transformers.DataCollatorWithPadding(tokenizer)
    rng = np.random.default_rng(0)
    prepared = prepare(model)
    yield {}
    while True:
        order = [list(x) for x in batches_of(lengths, job["batch_size"], rng, grouped=True)]
        said = _epoch(prepared, optimizer, rows, order, collate)
        counts = {"tokens": int(lengths.sum()), "token_pairs": int((lengths**2).sum())}
        yield {"samples": len(rows), **counts, **said}


def keras_finetune_lora(job: dict[str, Any]) -> Turns:
    """This library: LoRA on the fused projection of queries, keys and values."""
    import keras

    import keras_finetune as kft

    keras.utils.set_random_seed(0)
    model = kft.load_pretrained(smollm2_file(), head=True)
    tuner = kft.FineTuner(model)
    tuner.freeze("*")
    tuner.unfreeze("*/query_key_value")
    for layer in model._flatten_layers():
        if layer.name == "query_key_value":
            layer.enable_lora(FUSED_RANK)
    task = kft.tasks.LanguageModeling(model.tokenizer, max_length=job["max_length"])
    task.compile(model)
    optimizer = keras.optimizers.AdamW(LORA_RATE, global_clipnorm=CLIP)
    tuner.compile(optimizer, precision="mixed_bfloat16")
    data = task.dataset(job["texts"], batch_size=job["batch_size"])
    yield {"trained": sum(int(np.prod(x.shape)) for x in model.trainable_variables)}
    while True:
        history = tuner.fit(data, verbose=0)
        rows = sum(len(batch) for batch, _ in data.plan(0))
        yield {"samples": rows, "loss": history.history["loss"][-1], **_jax_memory()}


def hf_lora(job: dict[str, Any]) -> Turns:
    """PEFT: LoRA on the projections of queries, keys and values."""
    import peft
    import torch
    import transformers

    transformers.set_seed(0)
    tokenizer = smollm2_tokenizer()
    # Separated as `LanguageModeling` separates them, and cut into rows of equal length.
    ids = [i for x in tokenizer(job["texts"])["input_ids"] for i in [*x, tokenizer.eos_token_id]]
    blocks = np.array(ids[: len(ids) // job["max_length"] * job["max_length"]])
    blocks = torch.from_numpy(blocks.reshape(-1, job["max_length"]))
    rows = [{"input_ids": x, "labels": x} for x in blocks]
    model = transformers.AutoModelForCausalLM.from_pretrained(
        smollm2_file().parent,
        gguf_file=smollm2_file().name,
        dtype=torch.bfloat16,
        use_cache=False,
    )
    model.to("cuda").train()
    config = peft.LoraConfig(r=RANK, target_modules=["q_proj", "k_proj", "v_proj"])
    model = peft.get_peft_model(model, config)
    trained = [x for x in model.parameters() if x.requires_grad]
    optimizer = torch.optim.AdamW(trained, LORA_RATE, fused=True)
    rng = np.random.default_rng(0)
    yield {"trained": sum(x.numel() for x in trained)}
    while True:
        order = rng.permutation(len(rows))
        size = job["batch_size"]
        batches = [order[start : start + size].tolist() for start in range(0, len(order), size)]
        said = _epoch(model, optimizer, rows, batches, torch.utils.data.default_collate)
        counts = {"tokens": blocks.numel(), "token_pairs": blocks.numel() * job["max_length"]}
        yield {"samples": len(rows), **counts, **said}


def _epoch(
    model: Any, optimizer: Any, rows: list[Any], order: list[Any], collate: Callable[[Any], Any]
) -> dict[str, Any]:
    import torch

    loader = torch.utils.data.DataLoader(
        rows, batch_sampler=order, collate_fn=collate, num_workers=2, pin_memory=True
    )
    trained = [x for x in model.parameters() if x.requires_grad]
    started, first, losses = time.perf_counter(), 0.0, []
    for batch in loader:
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(**{k: x.to("cuda", non_blocking=True) for k, x in batch.items()}).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
        if not first:
            torch.cuda.synchronize()
            first = round(time.perf_counter() - started, 2)
    return {
        "loss": torch.stack(losses).mean().item(),
        "first_step_seconds": first,
        "gpu_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2),
    }


def _jax_memory() -> dict[str, Any]:
    import jax

    used = jax.devices()[0].memory_stats() or {}
    return {"gpu_memory_gb": round(used.get("peak_bytes_in_use", 0) / 1e9, 2)}
