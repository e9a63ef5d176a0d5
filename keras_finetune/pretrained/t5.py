"""T5 and those built like it: T5 v1.1, Flan-T5 and mT5, encoder-decoders."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from keras_finetune.pretrained.checkpoint import Weights
from keras_finetune.pretrained.config_file import Config, activation, real, require, size
from keras_finetune.pretrained.family import Family, Head
from keras_finetune.pretrained.tensors import Tensor, linear, rms_norm, table

# "gated-gelu" has always meant the approximation, whatever "gelu" alone means.
_ACTIVATIONS = {
    "relu": "relu",
    "gated-gelu": "geglu_approximate",
    "gated-gelu_new": "geglu_approximate",
    "gated-silu": "swiglu",
    "gelu": "gelu",
    "gelu_new": "gelu_approximate",
    "silu": "silu",
}
_LM_HEAD = "lm_head.weight"


def arguments(config: Config) -> dict[str, Any]:
    """Translate a config to the arguments of `encoder_decoder`."""
    require(config, is_encoder_decoder=True, is_decoder=False)
    return {
        "vocab_size": size(config, "vocab_size"),
        "num_layers": size(config, "num_layers"),
        "num_decoder_layers": _decoder_layers(config),
        "num_heads": size(config, "num_heads"),
        "head_dim": size(config, "d_kv"),
        "hidden_dim": size(config, "d_model"),
        "intermediate_dim": size(config, "d_ff"),
        "positions": "relative",
        "num_buckets": config.get("relative_attention_num_buckets", 32),
        "max_distance": config.get("relative_attention_max_distance", 128),
        "attention_scale": 1.0,
        "norm": "rms",
        "norm_first": True,
        "norm_epsilon": real(config, "layer_norm_epsilon", 1e-6),
        "activation": _activation(config),
        "use_bias": False,
        "dropout": real(config, "dropout_rate", 0.1),
    }


def config(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the arguments of `encoder_decoder` to a config."""
    theirs = [name for name, ours in _ACTIVATIONS.items() if ours == arguments["activation"]]
    if not theirs:
        raise ValueError(f"This family has no activation {arguments['activation']!r}.")
    return {
        "vocab_size": arguments["vocab_size"],
        "num_layers": arguments["num_layers"],
        "num_decoder_layers": arguments["num_decoder_layers"],
        "num_heads": arguments["num_heads"],
        "d_kv": arguments["head_dim"],
        "d_model": arguments["hidden_dim"],
        "d_ff": arguments["intermediate_dim"],
        "relative_attention_num_buckets": arguments["num_buckets"],
        "relative_attention_max_distance": arguments["max_distance"],
        "layer_norm_epsilon": arguments["norm_epsilon"],
        "feed_forward_proj": theirs[0],
        "dropout_rate": arguments["dropout"],
        "is_encoder_decoder": True,
    }


def complete(config: Config, weights: Weights) -> Config:
    """Add to a config what it may not say rightly: whether the head is tied, and scaled.

    Since its version 5, `transformers` writes that every T5 is tied, and ties those whose file has
    no other head. Before, those that were not tied were those whose head was not scaled.
    """
    told = bool(config.get("tie_word_embeddings", True))
    scaled = bool(config.get("scale_decoder_outputs", told))
    found = {**config, "tie_word_embeddings": _is_tied(weights)}
    return found | ({"scale_decoder_outputs": scaled} if config["model_type"] == "t5" else {})


def tensors(config: Config) -> list[Tensor]:
    """List the tensors of the backbone."""
    width, heads = config["d_model"], config["num_heads"]
    rows = config.get("relative_attention_num_buckets", 32)
    found = table("token_embedding", "shared", config["vocab_size"], width)
    for side, count in (("encoder", config["num_layers"]), ("decoder", _decoder_layers(config))):
        first = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias"
        found += table(f"{side}_position_bias", first, rows, heads)
        for number in range(count):
            found += _block(f"{side}_block_{number}", f"{side}.block.{number}.layer", config)
        found += rms_norm(f"{side}_norm", f"{side}.final_layer_norm", width)
    return found


def _block(ours: str, theirs: str, config: Config) -> list[Tensor]:
    width, inside = config["d_model"], config["num_heads"] * config["d_kv"]
    attention = f"{theirs}.0.SelfAttention"
    query_key_value = [f"{attention}.{name}" for name in "qkv"]
    found = [
        *linear(f"{ours}/attention/query_key_value", query_key_value, width, inside, bias=False),
        *linear(f"{ours}/attention/output", f"{attention}.o", inside, width, bias=False),
        *rms_norm(f"{ours}/attention_norm", f"{theirs}.0.layer_norm", width),
    ]
    last = f"{theirs}.1"
    if ours.startswith("decoder"):
        last, attention = f"{theirs}.2", f"{theirs}.1.EncDecAttention"
        key_value = [f"{attention}.{name}" for name in "kv"]
        cross = f"{ours}/encoder_attention"
        found += [
            *linear(f"{cross}/query", f"{attention}.q", width, inside, bias=False),
            *linear(f"{cross}/key_value", key_value, width, inside, bias=False),
            *linear(f"{cross}/output", f"{attention}.o", inside, width, bias=False),
            *rms_norm(f"{cross}_norm", f"{theirs}.1.layer_norm", width),
        ]
    return found + _feed_forward(ours, last, config)


def _feed_forward(ours: str, theirs: str, config: Config) -> list[Tensor]:
    width, intermediate, dense = config["d_model"], config["d_ff"], f"{theirs}.DenseReluDense"
    up = {"up": "wi"}
    if config.get("feed_forward_proj", "relu").startswith("gated-"):
        up = {"gate": "wi_0", "up": "wi_1"}
    found = []
    for name, their_name in up.items():
        found += linear(
            f"{ours}/feed_forward/{name}", f"{dense}.{their_name}", width, intermediate, bias=False
        )
    return [
        *found,
        *linear(f"{ours}/feed_forward/down", f"{dense}.wo", intermediate, width, bias=False),
        *rms_norm(f"{ours}/feed_forward_norm", f"{theirs}.layer_norm", width),
    ]


def _activation(config: Config) -> str:
    found = activation({"feed_forward_proj": "relu", **config}, "feed_forward_proj", _ACTIVATIONS)
    # Written beside it by transformers, which also reads it.
    name = "gelu_new" if found == "geglu_approximate" else None
    require(config, dense_act_fn=name or config.get("feed_forward_proj", "relu").split("-")[-1])
    return found


def _decoder_layers(config: Config) -> int:
    named = config.get("num_decoder_layers") is not None
    return size(config, "num_decoder_layers" if named else "num_layers")


def _is_tied(weights: Weights) -> bool:
    if _LM_HEAD not in weights.shapes:
        return True
    if weights.shapes[_LM_HEAD] != weights.shapes.get("shared.weight"):
        return False
    return np.array_equal(weights.read(_LM_HEAD), weights.read("shared.weight"))


def _next_token(config: Config) -> dict[str, Any]:
    tied = config.get("tie_word_embeddings", True)
    scaled = config.get("scale_decoder_outputs", tied) and config["model_type"] == "t5"
    return {
        "tied": tied,
        "use_bias": False,
        "scale": config["d_model"] ** -0.5 if scaled else 1.0,
    }


def _next_token_config(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"scale_decoder_outputs": arguments["scale"] != 1.0}


def _next_token_tensors(config: Config) -> list[Tensor]:
    if config.get("tie_word_embeddings", True):
        return []
    return linear("head_projection", "lm_head", config["d_model"], config["vocab_size"], bias=False)


FAMILY = Family(
    model_type="t5",
    architecture="T5Model",
    builder="encoder_decoder",
    arguments=arguments,
    config=config,
    complete=complete,
    tensors=tensors,
    heads={
        "language_model": Head(
            "T5ForConditionalGeneration",
            _next_token,
            _next_token_tensors,
            config=_next_token_config,
            aliases=("T5WithLMHeadModel",),
        )
    },
    prefix="",
    # The embedding of either side is the shared one. The first cross-attention of old files has
    # relative positions that nothing reads.
    ignored=(
        r"(encoder|decoder)\.embed_tokens\.weight",
        r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
        r"lm_head\.weight",
        r"classification_head\..*",
        r"qa_outputs\..*",
    ),
)

MT5 = replace(
    FAMILY,
    model_type="mt5",
    architecture="MT5Model",
    heads={"language_model": Head("MT5ForConditionalGeneration", _next_token, _next_token_tensors)},
)
