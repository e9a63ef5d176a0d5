"""What a family of pretrained models is described by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_finetune.models import (
    language_model,
    masked_language_model,
    question_answerer,
    text_classifier,
)
from keras_finetune.pretrained.checkpoint import Weights
from keras_finetune.pretrained.config_file import Config, label_names
from keras_finetune.pretrained.tensors import Tensor

HEAD_BUILDERS: dict[str, Callable[..., keras.Model]] = {
    "language_model": language_model,
    "masked_language_model": masked_language_model,
    "question_answerer": question_answerer,
    "text_classifier": text_classifier,
}


def _nothing_more(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def _as_it_is(config: Config, weights: Weights) -> Config:
    return config


@dataclass(frozen=True)
class Head:
    """A task head of a family.

    Attributes:
        architecture: Its name in a config: `"BertForMaskedLM"`.
        arguments: From the config to the arguments of our head's builder, all that matter.
        tensors: From the config to its tensors.
        aliases: Other names in configs that have this head, too.
        config: From our head's arguments to what a config says of it, but for its labels and
            `tie_word_embeddings`.
    """

    architecture: str
    arguments: Callable[[Config], dict[str, Any]]
    tensors: Callable[[Config], list[Tensor]]
    aliases: tuple[str, ...] = ()
    config: Callable[[Mapping[str, Any]], dict[str, Any]] = _nothing_more


@dataclass(frozen=True)
class Family:
    """How checkpoints of a family map to one of our builders and back.

    Attributes:
        model_type: As in the config.
        architecture: The bare backbone's name in a config: `"BertModel"`.
        builder: Name of our builder, in `keras_finetune.models`.
        arguments: From a config to the builder's arguments.
        config: From the builder's arguments to a config.
        tensors: From a config to the backbone's tensors.
        heads: Task heads by the name of our builder.
        prefix: Stands before the backbone's names in files with a head.
        ignored: Regular expressions of names that files may have and that nothing is made of.
        complete: Corrects a config by the tensors of its checkpoint.
    """

    model_type: str
    architecture: str
    builder: str
    arguments: Callable[[Config], dict[str, Any]]
    config: Callable[[Mapping[str, Any]], dict[str, Any]]
    tensors: Callable[[Config], list[Tensor]]
    heads: Mapping[str, Head]
    prefix: str
    ignored: tuple[str, ...] = field(default=())
    complete: Callable[[Config, Weights], Config] = _as_it_is


def classifier_arguments(config: Config, **more: Any) -> dict[str, Any]:
    """Return the arguments of `text_classifier` that a config says.

    Raises:
        ValueError: It is a regression, which is no classification.
    """
    names = label_names(config)
    if config.get("problem_type") == "regression" or len(names) < 2:
        raise ValueError(
            "The config's head is a regression (one output), not a classifier. Load the backbone "
            "alone: load_pretrained(path)."
        )
    return {"num_classes": len(names), **more}
