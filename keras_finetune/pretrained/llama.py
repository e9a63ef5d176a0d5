"""Llama and those built like it: SmolLM2, TinyLlama; Qwen2 and Qwen3."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from keras_finetune.pretrained.config_file import (
    GATED_ACTIVATIONS,
    Config,
    activation,
    label_names,
    real,
    require,
    rotary,
    size,
    their_activation,
)
from keras_finetune.pretrained.family import Family, Head, classifier_arguments
from keras_finetune.pretrained.tensors import Tensor, linear, rms_norm, table

_QKV_BIAS = {"llama": None, "qwen2": True, "qwen3": None}


def arguments(config: Config) -> dict[str, Any]:
    """Translate a config to the arguments of `transformer_decoder`."""
    bias = bool(config.get("attention_bias", False))
    require(config, use_sliding_window=False, partial_rotary_factor=1.0, pretraining_tp=1)
    if config["model_type"] == "llama":
        require(config, mlp_bias=bias)
    else:
        require(config, attention_bias=False)
    heads = size(config, "num_attention_heads")
    width = size(config, "hidden_size")
    return {
        "vocab_size": size(config, "vocab_size"),
        "num_layers": size(config, "num_hidden_layers"),
        "num_heads": heads,
        "hidden_dim": width,
        "intermediate_dim": size(config, "intermediate_size"),
        "positions": "rotary",
        "norm": "rms",
        "norm_epsilon": real(config, "rms_norm_eps", 1e-6),
        "activation": activation(config, "hidden_act", GATED_ACTIVATIONS),
        "use_bias": bias,
        "qkv_bias": bias if _QKV_BIAS[config["model_type"]] is None else True,
        "qk_norm": config["model_type"] == "qwen3",
        "num_kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": _head_dim(config),
        **rotary(config),
        "dropout": 0.0,
        "attention_dropout": real(config, "attention_dropout", 0.0),
    }


def config_for(model_type: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Make the function that translates the arguments of `transformer_decoder` to a config."""

    def config(arguments: Mapping[str, Any]) -> dict[str, Any]:
        scaling, theta = arguments["rope_scaling"], arguments["rope_theta"]
        found = {
            "model_type": model_type,
            "vocab_size": arguments["vocab_size"],
            "num_hidden_layers": arguments["num_layers"],
            "num_attention_heads": arguments["num_heads"],
            "num_key_value_heads": arguments["num_kv_heads"],
            "head_dim": arguments["head_dim"],
            "hidden_size": arguments["hidden_dim"],
            "intermediate_size": arguments["intermediate_dim"],
            "rms_norm_eps": arguments["norm_epsilon"],
            "hidden_act": their_activation(arguments["activation"], GATED_ACTIVATIONS),
            # The newer and the older keys, for newer and older readers.
            "rope_parameters": {
                "rope_type": "default",
                **(scaling or {}),
                "rope_theta": theta,
            },
            "rope_theta": theta,
            "rope_scaling": scaling,
            "attention_dropout": arguments["attention_dropout"],
        }
        if model_type == "llama":
            found |= {"attention_bias": arguments["use_bias"], "mlp_bias": arguments["use_bias"]}
        return found

    return config


def tensors(config: Config) -> list[Tensor]:
    """List the tensors of the backbone."""
    width = config["hidden_size"]
    found = table("token_embedding", "embed_tokens", config["vocab_size"], width)
    ours = arguments(config)
    for number in range(config["num_hidden_layers"]):
        found += _block(f"block_{number}", f"layers.{number}", ours)
    return found + rms_norm("norm", "norm", width)


def _block(ours: str, theirs: str, arguments: Mapping[str, Any]) -> list[Tensor]:
    width, intermediate = arguments["hidden_dim"], arguments["intermediate_dim"]
    head_dim, bias = arguments["head_dim"], arguments["use_bias"]
    queries, keys = (arguments[f"num_{kind}heads"] * head_dim for kind in ("", "kv_"))
    attention = f"{theirs}.self_attn"
    found = [
        *linear(
            f"{ours}/attention/query_key_value",
            [f"{attention}.{name}_proj" for name in "qkv"],
            width,
            [queries, keys, keys],
            bias=arguments["qkv_bias"],
        ),
        *linear(f"{ours}/attention/output", f"{attention}.o_proj", queries, width, bias=bias),
        *rms_norm(f"{ours}/attention_norm", f"{theirs}.input_layernorm", width),
        *linear(f"{ours}/feed_forward/up", f"{theirs}.mlp.up_proj", width, intermediate, bias=bias),
        *linear(
            f"{ours}/feed_forward/gate", f"{theirs}.mlp.gate_proj", width, intermediate, bias=bias
        ),
        *linear(
            f"{ours}/feed_forward/down", f"{theirs}.mlp.down_proj", intermediate, width, bias=bias
        ),
        *rms_norm(f"{ours}/feed_forward_norm", f"{theirs}.post_attention_layernorm", width),
    ]
    if arguments["qk_norm"]:
        found += rms_norm(f"{ours}/attention/query_norm", f"{attention}.q_norm", head_dim)
        found += rms_norm(f"{ours}/attention/key_norm", f"{attention}.k_norm", head_dim)
    return found


def _head_dim(config: Config) -> int:
    default = size(config, "hidden_size") // size(config, "num_attention_heads")
    # Qwen3's is 128 whatever the width; its configs always say so.
    return config.get("head_dim") or (128 if config["model_type"] == "qwen3" else default)


def _tied(config: Config) -> bool:
    return bool(config.get("tie_word_embeddings", False))


def _next_token(config: Config) -> dict[str, Any]:
    return {"tied": _tied(config), "use_bias": False, "scale": 1.0}


def _next_token_tensors(config: Config) -> list[Tensor]:
    if _tied(config):
        return []
    width, rows = config["hidden_size"], config["vocab_size"]
    return linear("head_projection", "lm_head", width, rows, bias=False)


def _classifier(config: Config) -> dict[str, Any]:
    return classifier_arguments(
        config, pooling="last", hidden_dim=None, use_bias=False, dropout=0.0
    )


def _classifier_tensors(config: Config) -> list[Tensor]:
    width = config["hidden_size"]
    return linear("head_logits", "score", width, len(label_names(config)), bias=False)


FAMILY = Family(
    model_type="llama",
    architecture="LlamaModel",
    builder="transformer_decoder",
    arguments=arguments,
    config=config_for("llama"),
    tensors=tensors,
    heads={
        "language_model": Head("LlamaForCausalLM", _next_token, _next_token_tensors),
        "text_classifier": Head("LlamaForSequenceClassification", _classifier, _classifier_tensors),
    },
    prefix="model.",
    ignored=(r".*rotary_emb\.inv_freq", r"lm_head\.weight", r"score\.weight"),
)


def _like_llama(model_type: str, name: str) -> Family:
    heads = {
        kind: replace(head, architecture=head.architecture.replace("Llama", name))
        for kind, head in FAMILY.heads.items()
    }
    return replace(
        FAMILY,
        model_type=model_type,
        architecture=f"{name}Model",
        config=config_for(model_type),
        heads=heads,
    )


QWEN2 = _like_llama("qwen2", "Qwen2")
QWEN3 = _like_llama("qwen3", "Qwen3")
