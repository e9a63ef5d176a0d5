"""RoBERTa and XLM-RoBERTa: BERT whose positions begin at row 2 of their table."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from keras_finetune.pretrained import bert
from keras_finetune.pretrained.config_file import Config, label_names, require
from keras_finetune.pretrained.family import Family, Head
from keras_finetune.pretrained.tensors import Tensor, layer_norm, linear

# Positions begin after the number of the padding token, which is 1 in all these models.
_OFFSET = 2


def arguments(config: Config) -> dict[str, Any]:
    """Translate a config to the arguments of `transformer_encoder`."""
    require(config, pad_token_id=_OFFSET - 1)
    found = bert.arguments(config)
    max_length = found["max_length"] - _OFFSET
    return {**found, "position_offset": _OFFSET, "max_length": max_length}


def config(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the arguments of `transformer_encoder` to a config."""
    rows = arguments["max_length"] + _OFFSET
    return {
        **bert.config(arguments),
        "max_position_embeddings": rows,
        "pad_token_id": _OFFSET - 1,
    }


def _classifier_tensors(config: Config) -> list[Tensor]:
    width = config["hidden_size"]
    return [
        *linear("head_hidden", "classifier.dense", width, width),
        *linear("head_logits", "classifier.out_proj", width, len(label_names(config))),
    ]


def _masked(config: Config) -> dict[str, Any]:
    # The head's activation is GELU whatever the config says of the blocks'.
    return {**bert.masked(config), "activation": "gelu"}


def _masked_tensors(config: Config) -> list[Tensor]:
    width = config["hidden_size"]
    return [
        *linear("head_transform", "lm_head.dense", width, width),
        *layer_norm("head_norm", "lm_head.layer_norm", width),
        *bert.scores(config, "lm_head"),
    ]


FAMILY = Family(
    model_type="roberta",
    architecture="RobertaModel",
    builder="transformer_encoder",
    arguments=arguments,
    config=config,
    tensors=bert.tensors,
    heads={
        "text_classifier": Head(
            "RobertaForSequenceClassification", bert.classifier, _classifier_tensors
        ),
        "masked_language_model": Head("RobertaForMaskedLM", _masked, _masked_tensors),
        "question_answerer": Head(
            "RobertaForQuestionAnswering", lambda _: {}, bert.answers_tensors
        ),
    },
    prefix="roberta.",
    ignored=(
        r"embeddings\.position_ids",
        r"pooler\..*",
        r"classifier\..*",
        r"lm_head\..*",
        r"qa_outputs\..*",
    ),
)

XLM_ROBERTA = replace(
    FAMILY,
    model_type="xlm-roberta",
    architecture="XLMRobertaModel",
    heads={
        kind: replace(head, architecture=f"XLM{head.architecture}")
        for kind, head in FAMILY.heads.items()
    },
)
