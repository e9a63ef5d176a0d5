"""GPT-2, also DistilGPT-2."""

from collections.abc import Mapping
from typing import Any

from keras_finetune.pretrained.config_file import (
    Config,
    activation,
    label_names,
    real,
    require,
    size,
    their_activation,
)
from keras_finetune.pretrained.family import Family, Head, classifier_arguments
from keras_finetune.pretrained.tensors import Tensor, layer_norm, linear, table


def arguments(config: Config) -> dict[str, Any]:
    """Translate a config to the arguments of `transformer_decoder`."""
    require(
        config,
        scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False,
        add_cross_attention=False,
    )
    return {
        "vocab_size": size(config, "vocab_size"),
        "num_layers": size(config, "n_layer"),
        "num_heads": size(config, "n_head"),
        "hidden_dim": size(config, "n_embd"),
        "intermediate_dim": _intermediate(config),
        "max_length": size(config, "n_positions"),
        "norm_epsilon": real(config, "layer_norm_epsilon", 1e-5),
        "activation": activation(config, "activation_function"),
        "dropout": real(config, "resid_pdrop", 0.1),
        "attention_dropout": real(config, "attn_pdrop", 0.1),
    }


def config(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the arguments of `transformer_decoder` to a config."""
    return {
        "vocab_size": arguments["vocab_size"],
        "n_layer": arguments["num_layers"],
        "n_head": arguments["num_heads"],
        "n_embd": arguments["hidden_dim"],
        "n_inner": arguments["intermediate_dim"],
        "n_positions": arguments["max_length"],
        "layer_norm_epsilon": arguments["norm_epsilon"],
        "activation_function": their_activation(arguments["activation"]),
        "resid_pdrop": arguments["dropout"],
        "embd_pdrop": arguments["dropout"],
        "attn_pdrop": arguments["attention_dropout"],
    }


def tensors(config: Config) -> list[Tensor]:
    """List the tensors of the backbone."""
    width = config["n_embd"]
    found = [
        *table("token_embedding", "wte", config["vocab_size"], width),
        *table("position_embedding", "wpe", config["n_positions"], width),
    ]
    for number in range(config["n_layer"]):
        found += _block(f"block_{number}", f"h.{number}", width, _intermediate(config))
    return found + layer_norm("norm", "ln_f", width)


def _block(ours: str, theirs: str, width: int, intermediate: int) -> list[Tensor]:
    # Query, key and value are one layer in the file, too, and kernels are (inputs, outputs).
    layers = [
        ("attention/query_key_value", "attn.c_attn", width, 3 * width),
        ("attention/output", "attn.c_proj", width, width),
        ("feed_forward/up", "mlp.c_fc", width, intermediate),
        ("feed_forward/down", "mlp.c_proj", intermediate, width),
    ]
    found = []
    for our, their, inputs, outputs in layers:
        found += linear(f"{ours}/{our}", f"{theirs}.{their}", inputs, outputs, transposed=False)
    found += layer_norm(f"{ours}/attention_norm", f"{theirs}.ln_1", width)
    return found + layer_norm(f"{ours}/feed_forward_norm", f"{theirs}.ln_2", width)


def _intermediate(config: Config) -> int:
    return config.get("n_inner") or 4 * size(config, "n_embd")


def _tied(config: Config) -> bool:
    return bool(config.get("tie_word_embeddings", True))


def _next_token(config: Config) -> dict[str, Any]:
    return {"tied": _tied(config), "use_bias": False, "scale": 1.0}


def _next_token_tensors(config: Config) -> list[Tensor]:
    if _tied(config):
        return []
    width, rows = config["n_embd"], config["vocab_size"]
    return linear("head_projection", "lm_head", width, rows, bias=False)


def _classifier(config: Config) -> dict[str, Any]:
    return classifier_arguments(
        config, pooling="last", hidden_dim=None, use_bias=False, dropout=0.0
    )


def _classifier_tensors(config: Config) -> list[Tensor]:
    return linear("head_logits", "score", config["n_embd"], len(label_names(config)), bias=False)


FAMILY = Family(
    model_type="gpt2",
    architecture="GPT2Model",
    builder="transformer_decoder",
    arguments=arguments,
    config=config,
    tensors=tensors,
    heads={
        "language_model": Head("GPT2LMHeadModel", _next_token, _next_token_tensors),
        "text_classifier": Head("GPT2ForSequenceClassification", _classifier, _classifier_tensors),
    },
    prefix="transformer.",
    ignored=(r"h\.\d+\.attn\.(masked_)?bias", r"lm_head\.weight", r"score\.weight"),
)
