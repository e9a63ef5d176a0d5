"""A backbone, a head, a tokenizer and a length that fit each other."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_finetune.data import Tokenizer
from keras_finetune.models import language_model
from keras_finetune.models.arguments import check_keras_model
from keras_finetune.models.attention import Attention
from keras_finetune.models.convolution_block import ConvolutionBlock
from keras_finetune.models.recurrent_block import RecurrentBlock
from keras_finetune.pretrained.config_file import config_beside
from keras_finetune.pretrained.families import FAMILIES
from keras_finetune.tuning.label_checks import num_outputs


def check_tokenizer(tokenizer: Any, *, may_come_later: bool = True) -> None:
    """Require a tokenizer of this library.

    Args:
        tokenizer: What a task was given.
        may_come_later: Whether None stands for that of a backbone.

    Raises:
        ValueError: It is anything else.
    """
    if tokenizer is None and may_come_later:
        return
    if not isinstance(tokenizer, Tokenizer):
        raise ValueError(
            "tokenizer must be a keras_finetune.data.Tokenizer: Tokenizer.train(texts) or "
            f"Tokenizer.load(path). Received: {tokenizer!r}"
        )


def tokenizer_for(backbone: keras.Model, tokenizer: Tokenizer | None) -> Tokenizer:
    """Return a task's tokenizer: its own, else the one that the backbone brings.

    Args:
        backbone: A model, perhaps from `load_pretrained`.
        tokenizer: The task's own, or None.

    Raises:
        ValueError: There is neither.
    """
    found = tokenizer or getattr(backbone, "tokenizer", None)
    if not isinstance(found, Tokenizer):
        raise ValueError(
            "There is no tokenizer. Give the task one, or build on a backbone from "
            "keras_finetune.load_pretrained, which brings its own."
        )
    return found


def next_token_model(backbone: keras.Model, head_args: Mapping[str, Any]) -> keras.Model:
    """Return a backbone with a next-token head: the one that it has, else a new one.

    Args:
        backbone: A causal backbone or an encoder-decoder, with a head or without.
        head_args: Further arguments of `language_model`.

    Raises:
        ValueError: There are arguments for a head that is there already; or the checkpoint has a
            head that a new one would not equal, and was loaded without it.
    """
    if any(layer.name == "head_logits" for layer in backbone.layers):
        if head_args:
            raise ValueError(
                f"{backbone.name!r} has a next-token head already, so that build cannot make one "
                f"with {dict(head_args)}. Leave that out, or build on the backbone without a head."
            )
        return backbone
    config = getattr(backbone, "pretrained_config", None)
    if config is not None and "tied" not in head_args and _has_untied_head(config):
        raise ValueError(
            f"The checkpoint of {backbone.name!r} has a next-token head of its own, which was not "
            "loaded: a new one would know nothing of it. Use load_pretrained(path, head=True); or "
            "build(..., tied=False) for a new head, tied=True for the embeddings' matrix."
        )
    return language_model(backbone, **head_args)


def _has_untied_head(config: Mapping[str, Any]) -> bool:
    family = FAMILIES.get(config.get("model_type", ""))
    head = family.heads.get("language_model") if family else None
    names = set(config.get("architectures", ()))
    if head is None or names.isdisjoint({head.architecture, *head.aliases}):
        return False
    return not head.arguments(config)["tied"]


def hand_on(
    model: keras.Model, backbone: keras.Model, tokenizer: Tokenizer, labels: Sequence[str] = ()
) -> None:
    """Note on a task model what `keras_finetune.save_pretrained` writes beside its weights.

    Args:
        model: The task model.
        backbone: What it was built on.
        tokenizer: What makes its token ids.
        labels: The names of its classes.
    """
    model.pretrained_config = config_beside(tokenizer, backbone)
    model.tokenizer, model.labels = tokenizer, tuple(labels)


def check_classes(model: keras.Model, labels: Sequence[str]) -> None:
    """Refuse a model that tells other classes apart than a task does.

    Args:
        model: The task model.
        labels: The name of each class.

    Raises:
        ValueError: It has more outputs, or fewer.
    """
    units = num_outputs(model)
    if units is not None and units != len(labels):
        raise ValueError(
            f"The task has {len(labels)} classes, but the model has {units} outputs. Build the "
            "model with the same task."
        )


def takes_segment_ids(model: keras.Model) -> bool:
    """Whether a model asks which of two texts a token is in."""
    check_keras_model("The task", model)
    return isinstance(model.input, dict) and "segment_ids" in model.input


def check_packing(backbone: keras.Model) -> None:
    """Refuse a backbone that does not keep the texts of a row apart.

    Args:
        backbone: A model.

    Raises:
        ValueError: It is not one of this library's transformers.
    """
    check_keras_model("The task", backbone)
    kinds = {type(layer) for layer in backbone._flatten_layers()}
    if Attention not in kinds or kinds & {RecurrentBlock, ConvolutionBlock}:
        raise ValueError(
            "separate_texts=True needs a transformer of this library: transformer_encoder, "
            "transformer_decoder, or one from load_pretrained. In other backbones the texts of a "
            f"row would mix. Received: {backbone.name!r}."
        )


def check_backbone(
    backbone: keras.Model,
    tokenizer: Tokenizer,
    max_length: int,
    max_target_length: int | None = None,
) -> None:
    """Refuse a backbone whose embedding or positions do not fit.

    Args:
        backbone: A model with a layer `token_embedding`; one without is not checked.
        tokenizer: What makes the token ids.
        max_length: int, tokens of the longest sequence; of an encoder-decoder, of the source.
        max_target_length: int, tokens of an encoder-decoder's longest target.

    Raises:
        ValueError: The vocabulary and the embedding differ in size, or sequences are longer than
            the positions that the model knows.
    """
    check_keras_model("The task", backbone)
    layers = {layer.name: layer for layer in backbone._flatten_layers(include_self=False)}
    embedding = layers.get("token_embedding")
    rows = getattr(embedding, "input_dim", None)
    # Pretrained embeddings are often filled up, to a multiple of 64 as a rule.
    own = tokenizer is getattr(backbone, "tokenizer", None)
    filled_up = rows is not None and rows > tokenizer.vocab_size and (own or rows % 64 == 0)
    if rows is not None and rows != tokenizer.vocab_size and not filled_up:
        raise ValueError(
            f"The tokenizer knows {tokenizer.vocab_size} tokens, but the backbone's embedding has "
            f"{rows} rows. Build the backbone with vocab_size=tokenizer.vocab_size, or use the "
            "tokenizer that it was trained with."
        )
    for side, name, longest in (
        ("", "max_length", max_length),
        ("encoder_", "max_length", max_length),
        ("decoder_", "max_target_length", max_target_length or 0),
    ):
        positions = getattr(layers.get(f"{side}position_embedding"), "max_length", None)
        if positions is not None and longest > positions:
            raise ValueError(
                f"The task allows sequences of {longest} tokens, but the backbone has only "
                f"{positions} positions. Use {name}={positions}, or build the backbone with a "
                f"greater max_length."
            )
