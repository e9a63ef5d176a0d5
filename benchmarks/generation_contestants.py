"""What takes part in the benchmark of generation; see `contestants.py`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from weights import smollm2_file

Turns = Iterator[dict[str, Any]]

PROMPT_TOKENS = 24
TEXT = (
    "The history of printing begins long before the first press. Seals were pressed into clay, and "
    "later stamps of wood carried patterns onto cloth. When paper came to Europe, monks copied "
    "books by hand, and a large library held some hundred of them. Then movable type was cast in "
    "metal, page after page could be set, printed, taken apart and set anew, and within fifty "
    "years there were more books than scribes had written in a thousand. Prices fell, readers "
    "multiplied, and so did errors, quarrels and corrections. Newspapers followed in the "
    "seventeenth century, cheap paper and steam in the nineteenth, and with them a public that "
    "read every day what had happened far away, argued about it in the evening, and voted on it "
    "some years later. None of this was planned by the man who needed money for his workshop."
)


def generate_ours(job: dict[str, Any]) -> Turns:
    """This library: `generation.generate`."""
    import keras_finetune as kft

    model = kft.load_pretrained(smollm2_file(), head=True, dtype=job["dtype"])
    prompts = _prompts(model.tokenizer, job)
    yield {}
    while True:
        new = kft.generation.generate(
            model, prompts, max_new_tokens=job["tokens"], end_id=-1, batch_size=len(prompts)
        )
        yield _said(new)


def generate_hf(job: dict[str, Any]) -> Turns:
    """Hugging Face: `generate` with its default cache and attention (SDPA)."""
    import torch
    import transformers

    torch.set_num_threads(2)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        smollm2_file().parent, gguf_file=smollm2_file().name, dtype=getattr(torch, job["dtype"])
    ).eval()
    given = torch.tensor(_prompts(smollm2_tokenizer(), job))
    yield {}
    while True:
        found = model.generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=job["tokens"],
            min_new_tokens=job["tokens"],
            do_sample=False,
            pad_token_id=2,
        )
        yield _said(found[:, given.shape[1] :].numpy())


def generate_kerashub(job: dict[str, Any]) -> Turns:
    """KerasHub: its Llama with the same weights, `generate` as it compiles by default."""
    import keras_hub

    import keras_finetune as kft

    ours = kft.load_pretrained(smollm2_file(), head=True, dtype="float32")
    config = ours.pretrained_config
    backbone = keras_hub.models.LlamaBackbone(
        vocabulary_size=config["vocab_size"],
        num_layers=config["num_hidden_layers"],
        num_query_heads=config["num_attention_heads"],
        num_key_value_heads=config["num_key_value_heads"],
        hidden_dim=config["hidden_size"],
        intermediate_dim=config["intermediate_size"],
        rope_max_wavelength=ours.get_layer("block_0").get_config()["rope_theta"],
        layer_norm_epsilon=config["rms_norm_eps"],
        tie_word_embeddings=True,
        dtype=job["dtype"],
    )
    _copy_weights(ours, backbone)
    model = keras_hub.models.LlamaCausalLM(backbone, preprocessor=None)
    model.compile(sampler="greedy")
    given = np.array(_prompts(ours.tokenizer, job), np.int32)
    ids = np.pad(given, ((0, 0), (0, job["tokens"])))
    mask = np.arange(ids.shape[1]) < given.shape[1]
    inputs = {"token_ids": ids, "padding_mask": np.broadcast_to(mask, ids.shape).astype(np.int32)}
    yield {}
    while True:
        found = model.generate(inputs, stop_token_ids=None)["token_ids"]
        yield _said(np.asarray(found)[:, given.shape[1] :])


def _copy_weights(ours: Any, backbone: Any) -> None:
    backbone.token_embedding.embeddings.assign(ours.get_layer("token_embedding").embeddings)
    backbone.layer_norm.scale.assign(ours.get_layer("norm").scale)
    for number, theirs in enumerate(backbone.transformer_layers):
        block = ours.get_layer(f"block_{number}")
        attention, other = block.attention, theirs._self_attention_layer
        query, key_value = attention.num_heads, 2 * attention.num_kv_heads
        kernel = np.asarray(attention.query_key_value.kernel)
        heads = kernel.reshape(kernel.shape[0], query + key_value, -1)
        parts = np.split(heads, [query, query + key_value // 2], axis=1)
        for dense, part in zip(
            (other._query_dense, other._key_dense, other._value_dense), parts, strict=True
        ):
            dense.kernel.assign(part)
        output = np.asarray(attention.projection.kernel)
        other._output_dense.kernel.assign(output.reshape(query, -1, output.shape[-1]))
        feed_forward = block.feed_forward
        theirs._feedforward_gate_dense.kernel.assign(feed_forward.gate.kernel)
        theirs._feedforward_intermediate_dense.kernel.assign(feed_forward.up.kernel)
        theirs._feedforward_output_dense.kernel.assign(feed_forward.down.kernel)
        theirs._self_attention_layernorm.scale.assign(block.attention_norm.scale)
        theirs._feedforward_layernorm.scale.assign(block.feed_forward_norm.scale)


def _said(new: Any) -> dict[str, Any]:
    ids = [[int(token) for token in row] for row in new]
    return {"samples": sum(map(len, ids)), "ids": ids}


def smollm2_tokenizer() -> Any:
    """Return its tokenizer, as `transformers` reads it."""
    import transformers

    return transformers.AutoTokenizer.from_pretrained(
        smollm2_file().parent, gguf_file=smollm2_file().name
    )


def _prompts(tokenizer: Any, job: dict[str, Any]) -> list[list[int]]:
    """Pieces of a text, all of one length, as KerasHub stops at a length and not after a number."""
    ids = list(tokenizer.encode(TEXT))
    starts = np.linspace(0, len(ids) - PROMPT_TOKENS, job["batch"]).astype(int)
    return [ids[start : start + PROMPT_TOKENS] for start in starts]
