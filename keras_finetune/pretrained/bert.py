"""BERT: also MiniLM, TinyBERT and the BERTs of other languages."""

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
    """Translate a config to the arguments of `transformer_encoder`."""
    require(config, position_embedding_type="absolute", is_decoder=False)
    return {
        "vocab_size": size(config, "vocab_size"),
        "num_layers": size(config, "num_hidden_layers"),
        "num_heads": size(config, "num_attention_heads"),
        "hidden_dim": size(config, "hidden_size"),
        "intermediate_dim": size(config, "intermediate_size"),
        "max_length": size(config, "max_position_embeddings"),
        "num_segments": size(config, "type_vocab_size"),
        "norm_epsilon": real(config, "layer_norm_eps", 1e-12),
        "activation": activation(config, "hidden_act"),
        "dropout": real(config, "hidden_dropout_prob", 0.1),
        "attention_dropout": real(config, "attention_probs_dropout_prob", 0.1),
    }


def config(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the arguments of `transformer_encoder` to a config."""
    return {
        "vocab_size": arguments["vocab_size"],
        "num_hidden_layers": arguments["num_layers"],
        "num_attention_heads": arguments["num_heads"],
        "hidden_size": arguments["hidden_dim"],
        "intermediate_size": arguments["intermediate_dim"],
        "max_position_embeddings": arguments["max_length"],
        "type_vocab_size": arguments["num_segments"],
        "layer_norm_eps": arguments["norm_epsilon"],
        "hidden_act": their_activation(arguments["activation"]),
        "hidden_dropout_prob": arguments["dropout"],
        "attention_probs_dropout_prob": arguments["attention_dropout"],
    }


def tensors(config: Config) -> list[Tensor]:
    """List the tensors of the backbone."""
    width = config["hidden_size"]
    found = [
        *table("token_embedding", "embeddings.word_embeddings", config["vocab_size"], width),
        *table(
            "segment_embedding",
            "embeddings.token_type_embeddings",
            config["type_vocab_size"],
            width,
        ),
        *table(
            "position_embedding",
            "embeddings.position_embeddings",
            config["max_position_embeddings"],
            width,
        ),
        *layer_norm("embedding_norm", "embeddings.LayerNorm", width),
    ]
    for number in range(config["num_hidden_layers"]):
        found += block(f"block_{number}", f"encoder.layer.{number}", config)
    return found


def block(ours: str, theirs: str, config: Config) -> list[Tensor]:
    """List the tensors of one transformer block."""
    width, intermediate = config["hidden_size"], config["intermediate_size"]
    query_key_value = [f"{theirs}.attention.self.{name}" for name in ("query", "key", "value")]
    return [
        *linear(f"{ours}/attention/query_key_value", query_key_value, width, width),
        *linear(f"{ours}/attention/output", f"{theirs}.attention.output.dense", width, width),
        *layer_norm(f"{ours}/attention_norm", f"{theirs}.attention.output.LayerNorm", width),
        *linear(f"{ours}/feed_forward/up", f"{theirs}.intermediate.dense", width, intermediate),
        *linear(f"{ours}/feed_forward/down", f"{theirs}.output.dense", intermediate, width),
        *layer_norm(f"{ours}/feed_forward_norm", f"{theirs}.output.LayerNorm", width),
    ]


def classifier(config: Config) -> dict[str, Any]:
    """Return the arguments of the classifier: a dense layer on the first token, then classes."""
    own = config.get("classifier_dropout") is not None
    dropout = "classifier_dropout" if own else "hidden_dropout_prob"
    return classifier_arguments(
        config,
        pooling="first",
        hidden_dim=config["hidden_size"],
        hidden_activation="tanh",
        dropout=real(config, dropout, 0.1),
    )


def _classifier_tensors(config: Config) -> list[Tensor]:
    width = config["hidden_size"]
    return [
        *linear("head_hidden", "bert.pooler.dense", width, width),
        *linear("head_logits", "classifier", width, len(label_names(config))),
    ]


def masked(config: Config) -> dict[str, Any]:
    """Return the arguments of the head that predicts masked tokens."""
    return {
        "tied": config.get("tie_word_embeddings", True),
        "activation": activation(config, "hidden_act"),
        "norm_epsilon": real(config, "layer_norm_eps", 1e-12),
    }


def _masked_tensors(config: Config) -> list[Tensor]:
    width = config["hidden_size"]
    return [
        *linear("head_transform", "cls.predictions.transform.dense", width, width),
        *layer_norm("head_norm", "cls.predictions.transform.LayerNorm", width),
        *scores(config, "cls.predictions"),
    ]


def scores(config: Config, name: str) -> list[Tensor]:
    """List the tensors that make scores of what a masked head has transformed."""
    width, rows = config["hidden_size"], config["vocab_size"]
    if config.get("tie_word_embeddings", True):
        return [Tensor("head_logits/bias", (f"{name}.bias",), ((rows,),))]
    # The projection's own bias counts. Older files have it under the other name only.
    bias = Tensor(
        "head_logits/bias", (f"{name}.decoder.bias",), ((rows,),), copies=(f"{name}.bias",)
    )
    return [bias, *linear("head_projection", f"{name}.decoder", width, rows, bias=False)]


def answers_tensors(config: Config) -> list[Tensor]:
    """List the tensors of the head for question answering."""
    return linear("head_scores", "qa_outputs", config["hidden_size"], 2)


FAMILY = Family(
    model_type="bert",
    architecture="BertModel",
    builder="transformer_encoder",
    arguments=arguments,
    config=config,
    tensors=tensors,
    heads={
        "text_classifier": Head("BertForSequenceClassification", classifier, _classifier_tensors),
        "masked_language_model": Head(
            "BertForMaskedLM", masked, _masked_tensors, aliases=("BertForPreTraining",)
        ),
        "question_answerer": Head("BertForQuestionAnswering", lambda _: {}, answers_tensors),
    },
    prefix="bert.",
    ignored=(
        r"embeddings\.position_ids",
        r"(bert\.)?pooler\..*",
        r"classifier\..*",
        r"cls\..*",
        r"qa_outputs\..*",
    ),
)
