"""What a model is, read off its layers: the arguments that would build it again."""

import inspect
from collections.abc import Mapping
from typing import Any

import keras

from keras_finetune import models
from keras_finetune.models import (
    ForbidPadding,
    PositionEmbedding,
    RelativePositionBias,
    TransformerBlock,
    VocabularyBias,
)
from keras_finetune.models.activation import activation_function

# They change no result, and families differ in how many of them there are.
_NO_RESULT = ("dropout", "attention_dropout", "dtype", "name")
_OF_THE_BLOCK = (
    "num_heads",
    "intermediate_dim",
    "num_kv_heads",
    "head_dim",
    "norm",
    "norm_first",
    "norm_epsilon",
    "activation",
    "use_bias",
    "qkv_bias",
    "qk_norm",
    "rope_theta",
    "rope_scaling",
    "attention_scale",
    "dropout",
    "attention_dropout",
)
_BLOCKS = {
    "transformer_encoder": "block_",
    "transformer_decoder": "block_",
    "encoder_decoder": "encoder_block_",
}
_HIDDEN_ACTIVATIONS = ("tanh", "relu", "gelu", "gelu_approximate", "silu")


def backbone_of(model: keras.Model) -> tuple[str, dict[str, Any]]:
    """Find which builder made a model's backbone, and with which arguments.

    Args:
        model: A backbone of this library's transformer builders, or a task model on one.

    Returns:
        The builder's name and its arguments, every one resolved.

    Raises:
        ValueError: The model is of another kind.
    """
    layers = {layer.name: layer for layer in model.layers}
    blocks = [layer for layer in model.layers if isinstance(layer, TransformerBlock)]
    if not blocks or "token_embedding" not in layers:
        raise ValueError(
            f"The model {model.name!r} has no transformer backbone of this library's builders "
            f"(transformer_encoder, transformer_decoder, encoder_decoder), whose families this "
            f"format is for. Its layers: {[layer.name for layer in model.layers][:20]}. Save it "
            "with model.save(path)."
        )
    builder = "transformer_decoder" if blocks[0].causal else "transformer_encoder"
    prefix = ""
    if any(block.cross_attention for block in blocks):
        builder, prefix = "encoder_decoder", "encoder_"
        blocks.sort(key=lambda block: block.cross_attention)
    config = blocks[0].get_config()
    positions = layers.get(f"{prefix}position_embedding")
    segments = layers.get("segment_embedding")
    found = {key: config[key] for key in _OF_THE_BLOCK}
    found |= {
        "vocab_size": layers["token_embedding"].input_dim,
        "hidden_dim": layers["token_embedding"].output_dim,
        "num_layers": _count(blocks, _BLOCKS[builder]),
        "num_decoder_layers": _count(blocks, "decoder_block_"),
        "num_segments": 0 if segments is None else segments.input_dim,
        "embedding_norm": f"{prefix}embedding_norm" in layers,
        "positions": "none" if config["rope_theta"] is None else "rotary",
    }
    if isinstance(positions, PositionEmbedding):
        found |= {
            "positions": "learned",
            "max_length": positions.max_length,
            "position_offset": positions.offset,
        }
    bias = layers.get(f"{prefix}position_bias")
    if isinstance(bias, RelativePositionBias):
        found |= {
            "positions": "relative",
            "num_buckets": bias.num_buckets,
            "max_distance": bias.max_distance,
        }
    takes = inspect.signature(getattr(models, builder)).parameters
    return builder, resolved(builder, {k: v for k, v in found.items() if k in takes})


def resolved(builder: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what a builder takes for arguments that are not given.

    Args:
        builder: The builder's name.
        arguments: Some of its arguments.

    Returns:
        All that it takes, without those that do nothing beside the others.
    """
    parameters = inspect.signature(getattr(models, builder)).parameters.values()
    found = {p.name: p.default for p in parameters if p.default is not p.empty}
    found |= {key: value for key, value in arguments.items() if key in found or key in _REQUIRED}
    defaults = {
        "intermediate_dim": 4 * found["hidden_dim"],
        "num_kv_heads": found["num_heads"],
        "head_dim": found["hidden_dim"] // found["num_heads"],
        "qkv_bias": found["use_bias"],
        "embedding_norm": not found.get("norm_first", True),
        "num_decoder_layers": found["num_layers"],
        "attention_dropout": found["dropout"],
    }
    found |= {key: value for key, value in defaults.items() if found.get(key, value) is None}
    if "attention_scale" in found and found["attention_scale"] is None:
        found["attention_scale"] = found["head_dim"] ** -0.5
    if found["positions"] != "learned":
        found["max_length"], found["position_offset"] = 0, 0
    if found["positions"] != "rotary":
        found |= {"rope_theta": 0.0, "rope_scaling": None}
    if found["positions"] != "relative":
        found |= {"num_buckets": 0, "max_distance": 0}
    return found


_REQUIRED = ("vocab_size",)


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Name the arguments in which two models give different results."""
    keys = (ours.keys() & theirs.keys()) - set(_NO_RESULT)
    return sorted(key for key in keys if ours[key] != theirs[key])


def head_of_model(model: keras.Model) -> tuple[str | None, dict[str, Any]]:
    """Find which builder made a model's head, and with which arguments.

    Args:
        model: A backbone, or a task model.

    Returns:
        The builder's name (None for a backbone) and its arguments.

    Raises:
        ValueError: The head is of another kind.
    """
    layers = {layer.name: layer for layer in model.layers if layer.name.startswith("head_")}
    if not layers:
        return None, {}
    last = layers.get("head_logits")
    tied = "head_projection" not in layers
    if "head_transform" in layers:
        return "masked_language_model", {
            "tied": tied,
            "activation": _activation_name(layers["head_transform"]),
            "norm_epsilon": layers["head_norm"].epsilon,
        }
    if "head_scores" in layers or isinstance(last, ForbidPadding):
        return "question_answerer", {}
    if "head_pooling" in layers and isinstance(last, keras.layers.Dense):
        if last.activation is not keras.activations.linear:
            raise ValueError(
                "The classifier gives probabilities, and the format is for logits. Build it "
                "without activation=..."
            )
        hidden = layers.get("head_hidden")
        found = {
            "num_classes": last.units,
            "pooling": layers["head_pooling"].pooling,
            "hidden_dim": None if hidden is None else hidden.units,
            "use_bias": last.use_bias,
        }
        return "text_classifier", found | (
            {} if hidden is None else {"hidden_activation": _activation_name(hidden)}
        )
    if last is not None:
        return "language_model", {
            "tied": tied,
            "use_bias": isinstance(last, VocabularyBias),
            "scale": layers["head_scale"].scale if "head_scale" in layers else 1.0,
        }
    raise ValueError(f"The model's head is none of this library's. Its layers: {sorted(layers)}.")


def _activation_name(layer: keras.layers.Layer) -> str:
    for name in _HIDDEN_ACTIVATIONS:
        # Keras has functions of most of these names, and some of ours come back from a file as its.
        alike = (activation_function(name)[0], getattr(keras.activations, name, None))
        if layer.activation in alike:
            return name
    return str(layer.activation)


def _count(blocks: list[TransformerBlock], prefix: str) -> int:
    return sum(block.name.startswith(prefix) for block in blocks)
