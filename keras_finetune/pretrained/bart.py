"""BART, an encoder-decoder for summarisation and translation."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from keras_finetune.pretrained.checkpoint import Weights
from keras_finetune.pretrained.config_file import (
    Config,
    activation,
    real,
    require,
    size,
    their_activation,
)
from keras_finetune.pretrained.family import Family, Head
from keras_finetune.pretrained.tensors import Tensor, layer_norm, linear, table

_OFFSET = 2
# Not in the config of this family, whose code has it as a constant.
_EPSILON = 1e-5
_SHARED, _LM_HEAD = "shared.weight", "lm_head.weight"
_OF_SIDES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")


def arguments(config: Config) -> dict[str, Any]:
    """Translate a config to the arguments of `encoder_decoder`."""
    require(
        config,
        scale_embedding=False,
        normalize_before=False,
        add_final_layer_norm=False,
        decoder_attention_heads=size(config, "encoder_attention_heads"),
        decoder_ffn_dim=size(config, "encoder_ffn_dim"),
    )
    return {
        "vocab_size": size(config, "vocab_size"),
        "num_layers": size(config, "encoder_layers"),
        "num_decoder_layers": size(config, "decoder_layers"),
        "num_heads": size(config, "encoder_attention_heads"),
        "hidden_dim": size(config, "d_model"),
        "intermediate_dim": size(config, "encoder_ffn_dim"),
        "max_length": size(config, "max_position_embeddings"),
        "position_offset": _OFFSET,
        "norm_first": False,
        "norm_epsilon": _EPSILON,
        "activation": activation(config, "activation_function"),
        "dropout": real(config, "dropout", 0.1),
        "attention_dropout": real(config, "attention_dropout", 0.0),
    }


def config(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the arguments of `encoder_decoder` to a config."""
    return {
        "vocab_size": arguments["vocab_size"],
        "encoder_layers": arguments["num_layers"],
        "decoder_layers": arguments["num_decoder_layers"],
        "encoder_attention_heads": arguments["num_heads"],
        "decoder_attention_heads": arguments["num_heads"],
        "d_model": arguments["hidden_dim"],
        "encoder_ffn_dim": arguments["intermediate_dim"],
        "decoder_ffn_dim": arguments["intermediate_dim"],
        "max_position_embeddings": arguments["max_length"],
        "scale_embedding": False,
        "activation_function": their_activation(arguments["activation"]),
        "dropout": arguments["dropout"],
        "attention_dropout": arguments["attention_dropout"],
        "activation_dropout": 0.0,
    }


def complete(config: Config, weights: Weights) -> Config:
    """Add to a config whether the head is tied, which a file with another head says otherwise.

    Raises:
        ValueError: A side has an embedding of its own, for which there is one here.
    """
    for name in _OF_SIDES:
        if not _is_shared(name, weights):
            raise ValueError(
                f'The tensor "{name}" differs from "{_SHARED}": encoder and decoder of this '
                "checkpoint have embeddings of their own, and an encoder_decoder here has one for "
                "both. It cannot be loaded without giving other results."
            )
    tied = config.get("tie_word_embeddings", True) and _is_shared(_LM_HEAD, weights)
    return {**config, "tie_word_embeddings": tied}


def _is_shared(name: str, weights: Weights) -> bool:
    """Tell whether a table, if it is there, holds what the shared one does."""
    if name not in weights.shapes or _SHARED not in weights.shapes:
        return True
    if weights.shapes[name] != weights.shapes[_SHARED]:
        return False
    return np.array_equal(weights.read(name), weights.read(_SHARED))


def tensors(config: Config) -> list[Tensor]:
    """List the tensors of the backbone."""
    width, rows = config["d_model"], config["max_position_embeddings"] + _OFFSET
    found = table("token_embedding", "shared", config["vocab_size"], width)
    if not config.get("tie_word_embeddings", True):  # Then transformers reads these instead.
        found = [replace(found[0], copies=_OF_SIDES)]
    for side in ("encoder", "decoder"):
        found += table(f"{side}_position_embedding", f"{side}.embed_positions", rows, width)
        found += layer_norm(f"{side}_embedding_norm", f"{side}.layernorm_embedding", width)
        for number in range(config[f"{side}_layers"]):
            ours, theirs = f"{side}_block_{number}", f"{side}.layers.{number}"
            found += _block(ours, theirs, width, config["encoder_ffn_dim"])
            if side == "decoder":
                found += _cross_attention(ours, theirs, width)
    return found


def _block(ours: str, theirs: str, width: int, intermediate: int) -> list[Tensor]:
    query_key_value = [f"{theirs}.self_attn.{name}_proj" for name in "qkv"]
    return [
        *linear(f"{ours}/attention/query_key_value", query_key_value, width, width),
        *linear(f"{ours}/attention/output", f"{theirs}.self_attn.out_proj", width, width),
        *layer_norm(f"{ours}/attention_norm", f"{theirs}.self_attn_layer_norm", width),
        *linear(f"{ours}/feed_forward/up", f"{theirs}.fc1", width, intermediate),
        *linear(f"{ours}/feed_forward/down", f"{theirs}.fc2", intermediate, width),
        *layer_norm(f"{ours}/feed_forward_norm", f"{theirs}.final_layer_norm", width),
    ]


def _cross_attention(ours: str, theirs: str, width: int) -> list[Tensor]:
    ours, attention = f"{ours}/encoder_attention", f"{theirs}.encoder_attn"
    key_value = [f"{attention}.{name}_proj" for name in "kv"]
    return [
        *linear(f"{ours}/query", f"{attention}.q_proj", width, width),
        *linear(f"{ours}/key_value", key_value, width, width),
        *linear(f"{ours}/output", f"{attention}.out_proj", width, width),
        *layer_norm(f"{ours}_norm", f"{attention}_layer_norm", width),
    ]


def _next_token(config: Config) -> dict[str, Any]:
    return {"tied": config.get("tie_word_embeddings", True), "use_bias": True, "scale": 1.0}


def _next_token_tensors(config: Config) -> list[Tensor]:
    width, rows = config["d_model"], config["vocab_size"]
    found = [Tensor("head_logits/bias", ("final_logits_bias",), ((1, rows),))]
    if not config.get("tie_word_embeddings", True):
        found += linear("head_projection", "lm_head", width, rows, bias=False)
    return found


FAMILY = Family(
    model_type="bart",
    architecture="BartModel",
    builder="encoder_decoder",
    arguments=arguments,
    config=config,
    complete=complete,
    tensors=tensors,
    heads={
        "language_model": Head("BartForConditionalGeneration", _next_token, _next_token_tensors)
    },
    prefix="model.",
    # The embedding of either side is the shared one, as `complete` sees to.
    ignored=(
        r"(encoder|decoder)\.embed_tokens\.weight",
        r"final_logits_bias",
        r"lm_head\.weight",
        r"classification_head\..*",
        r"qa_outputs\..*",
    ),
)
