"""DistilBERT: BERT with half the blocks and without segments."""

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

# Not in the config of this family, whose code has it as a constant.
_EPSILON = 1e-12


def arguments(config: Config) -> dict[str, Any]:
    """Translate a config to the arguments of `transformer_encoder`."""
    require(config, sinusoidal_pos_embds=False)
    return {
        "vocab_size": size(config, "vocab_size"),
        "num_layers": size(config, "n_layers"),
        "num_heads": size(config, "n_heads"),
        "hidden_dim": size(config, "dim"),
        "intermediate_dim": size(config, "hidden_dim"),
        "max_length": size(config, "max_position_embeddings"),
        "norm_epsilon": _EPSILON,
        "activation": activation(config, "activation"),
        "dropout": real(config, "dropout", 0.1),
        "attention_dropout": real(config, "attention_dropout", 0.1),
    }


def config(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the arguments of `transformer_encoder` to a config."""
    return {
        "vocab_size": arguments["vocab_size"],
        "n_layers": arguments["num_layers"],
        "n_heads": arguments["num_heads"],
        "dim": arguments["hidden_dim"],
        "hidden_dim": arguments["intermediate_dim"],
        "max_position_embeddings": arguments["max_length"],
        "sinusoidal_pos_embds": False,
        "activation": their_activation(arguments["activation"]),
        "dropout": arguments["dropout"],
        "attention_dropout": arguments["attention_dropout"],
    }


def tensors(config: Config) -> list[Tensor]:
    """List the tensors of the backbone."""
    width, positions = config["dim"], config["max_position_embeddings"]
    found = [
        *table("token_embedding", "embeddings.word_embeddings", config["vocab_size"], width),
        *table("position_embedding", "embeddings.position_embeddings", positions, width),
        *layer_norm("embedding_norm", "embeddings.LayerNorm", width),
    ]
    for number in range(config["n_layers"]):
        found += _block(f"block_{number}", f"transformer.layer.{number}", config)
    return found


def _block(ours: str, theirs: str, config: Config) -> list[Tensor]:
    width, intermediate = config["dim"], config["hidden_dim"]
    query_key_value = [f"{theirs}.attention.{name}_lin" for name in "qkv"]
    return [
        *linear(f"{ours}/attention/query_key_value", query_key_value, width, width),
        *linear(f"{ours}/attention/output", f"{theirs}.attention.out_lin", width, width),
        *layer_norm(f"{ours}/attention_norm", f"{theirs}.sa_layer_norm", width),
        *linear(f"{ours}/feed_forward/up", f"{theirs}.ffn.lin1", width, intermediate),
        *linear(f"{ours}/feed_forward/down", f"{theirs}.ffn.lin2", intermediate, width),
        *layer_norm(f"{ours}/feed_forward_norm", f"{theirs}.output_layer_norm", width),
    ]


def _classifier(config: Config) -> dict[str, Any]:
    return classifier_arguments(
        config,
        pooling="first",
        hidden_dim=config["dim"],
        hidden_activation="relu",
        dropout=real(config, "seq_classif_dropout", 0.2),
    )


def _classifier_tensors(config: Config) -> list[Tensor]:
    width = config["dim"]
    return [
        *linear("head_hidden", "pre_classifier", width, width),
        *linear("head_logits", "classifier", width, len(label_names(config))),
    ]


def _masked(config: Config) -> dict[str, Any]:
    return {
        "tied": config.get("tie_word_embeddings", True),
        "activation": activation(config, "activation"),
        "norm_epsilon": _EPSILON,
    }


def _masked_tensors(config: Config) -> list[Tensor]:
    width, rows = config["dim"], config["vocab_size"]
    found = [
        *linear("head_transform", "vocab_transform", width, width),
        *layer_norm("head_norm", "vocab_layer_norm", width),
        Tensor("head_logits/bias", ("vocab_projector.bias",), ((rows,),)),
    ]
    if not config.get("tie_word_embeddings", True):
        found += linear("head_projection", "vocab_projector", width, rows, bias=False)
    return found


def _answers_tensors(config: Config) -> list[Tensor]:
    return linear("head_scores", "qa_outputs", config["dim"], 2)


FAMILY = Family(
    model_type="distilbert",
    architecture="DistilBertModel",
    builder="transformer_encoder",
    arguments=arguments,
    config=config,
    tensors=tensors,
    heads={
        "text_classifier": Head(
            "DistilBertForSequenceClassification", _classifier, _classifier_tensors
        ),
        "masked_language_model": Head("DistilBertForMaskedLM", _masked, _masked_tensors),
        "question_answerer": Head("DistilBertForQuestionAnswering", lambda _: {}, _answers_tensors),
    },
    prefix="distilbert.",
    ignored=(
        r"embeddings\.position_ids",
        r"pre_classifier\..*",
        r"classifier\..*",
        r"vocab_(transform|layer_norm|projector)\..*",
        r"qa_outputs\..*",
    ),
)
