"""A model as a directory in Hugging Face's format."""

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import ml_dtypes  # noqa: F401  NumPy knows bfloat16 once this is imported.
import numpy as np
from safetensors.numpy import save_file

from keras_finetune.data import Tokenizer
from keras_finetune.models import PositionEmbedding
from keras_finetune.models.arguments import check_keras_model, checked_path
from keras_finetune.pretrained.architecture import (
    backbone_of,
    differences,
    head_of_model,
    resolved,
)
from keras_finetune.pretrained.config_file import TOKEN_ROLES, config_beside
from keras_finetune.pretrained.families import FAMILIES
from keras_finetune.pretrained.family import Family
from keras_finetune.pretrained.model_folder import check_target, put_in_place
from keras_finetune.pretrained.tensors import Tensor

_FLOATS = ("float32", "float16", "bfloat16")
# Of the config that a model was loaded with, these say what is not so any more.
_OUTDATED = ("architectures", "quantization_config", "_name_or_path", "transformers_version")
# The two factors of what LoRA adds to a variable, and their scale.
_Update = tuple[keras.Variable, keras.Variable, float]


def save_pretrained(
    model: keras.Model,
    directory: "str | os.PathLike[str]",
    *,
    tokenizer: Tokenizer | None = None,
    labels: Sequence[str] | None = None,
    max_shard_gb: float = 5.0,
) -> Path:
    """Write a model so that `transformers`, and `load_pretrained`, load it with equal logits.

    Everything is written to a temporary directory beside `directory`, which takes its place when
    it is complete. LoRA of Keras's layers (`layer.enable_lora`) is merged into the weights.

    Args:
        model: A backbone of this library's transformer builders, or a task model on one.
        directory: Is made, or replaced if it holds a model already: its weights, tokenizer and
            `generation_config.json` go, other files stay.
        tokenizer: Default: `model.tokenizer`, which models from `load_pretrained` and from a
            task's `build` have. Without either, none is written.
        labels: The names of a classifier's classes. Default: `model.labels`.
        max_shard_gb: Gigabytes of weights in one file at most.

    Returns:
        The directory.

    Raises:
        ValueError: No family has such a model or a place for all of its variables, the labels or
            the tokenizer do not fit it, or `directory` holds something else.

    Example:
        >>> import tempfile
        >>> import keras_finetune as kft
        >>> backbone = kft.models.transformer_decoder(100, num_layers=1, num_heads=2, hidden_dim=16)
        >>> model = kft.models.language_model(backbone)
        >>> directory = save_pretrained(model, tempfile.mkdtemp() + "/tiny-gpt2")
        >>> sorted(path.name for path in directory.iterdir())
        ['config.json', 'model.safetensors']
    """
    directory = checked_path("directory", directory)
    check_target(directory)
    check_keras_model("save_pretrained", model)
    before = config_beside(tokenizer, model) or {}
    tokenizer = tokenizer or getattr(model, "tokenizer", None)
    given_labels: Sequence[str] = getattr(model, "labels", ())
    family, config, kind = _config_of(model, before, labels or given_labels)
    if tokenizer is not None:
        _check_tokenizer(tokenizer, config)
        for role in TOKEN_ROLES:
            number = getattr(tokenizer, f"{role}_id")
            if config.get(f"{role}_token_id") is None:
                config[f"{role}_token_id"] = number
    tensors = list(_tensors_of(family, config, kind))
    variables = {variable.path: variable for variable in model.weights}
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        variable = variables[tensor.variable]
        dtype = keras.backend.standardize_dtype(variable.dtype)
        sizes[dtype] += int(np.prod(variable.shape))
        if dtype not in _FLOATS:
            raise ValueError(
                f"{tensor.variable} is {dtype}. Save a model before it is quantized: this format "
                "holds floating-point weights."
            )
    config["dtype"] = config["torch_dtype"] = sizes.most_common(1)[0][0]
    updates = _updates_of(model)
    _check_complete(variables, tensors, updates)

    directory.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        if tokenizer is not None:
            tokenizer.save(new)
            _note_inputs(new / "tokenizer_config.json", model)
        _write_weights(new, tensors, variables, updates, int(max_shard_gb * 1e9))
        text = json.dumps(config, indent=2, ensure_ascii=False, sort_keys=True)
        (new / "config.json").write_text(text + "\n", "utf-8")
        new.chmod(0o755)
        for path in new.iterdir():
            path.chmod(0o644)
        put_in_place(directory, new)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return directory


def _config_of(
    model: keras.Model, before: Mapping[str, Any], labels: Sequence[str]
) -> tuple[Family, dict[str, Any], str | None]:
    """Find the family that a model belongs to and its config."""
    builder, arguments = backbone_of(model)
    kind, head_arguments = head_of_model(model)
    candidates = [family for family in FAMILIES.values() if family.builder == builder]
    # Some families are built alike: the one that the model came from is the first choice.
    candidates.sort(key=lambda family: family.model_type != before.get("model_type"))
    of_head: dict[str, Any] = {}
    if kind in ("masked_language_model", "language_model"):
        of_head = {"tie_word_embeddings": head_arguments["tied"]}
    elif kind == "text_classifier":
        of_head = _label_config(labels, head_arguments["num_classes"])
        multi_label = getattr(model, "multi_label", None)
        if multi_label is not None:
            of_head["problem_type"] = f"{'multi' if multi_label else 'single'}_label_classification"
    reasons = []
    for family in candidates:
        try:
            found = {"model_type": family.model_type, **family.config(arguments), **of_head}
            if kind is not None and kind in family.heads:
                found |= family.heads[kind].config(head_arguments)
            if family.model_type == before.get("model_type"):
                found = {k: v for k, v in before.items() if k not in _OUTDATED} | found
            different = differences(arguments, resolved(builder, family.arguments(found)))
        except ValueError as error:
            reasons.append(f"{family.model_type}: {error}")
            continue
        if different:
            reasons.append(f"{family.model_type}: differs in {', '.join(different)}")
            continue
        if kind is not None:
            _check_head(family, found, kind, head_arguments)
        head = None if kind is None else family.heads[kind]
        found["architectures"] = [head.architecture if head else family.architecture]
        return family, found, kind
    raise ValueError(
        "No family of Hugging Face's has a backbone like this one, so that only model.save(path) "
        f"keeps it. {'; '.join(reasons)}."
    )


def _check_head(
    family: Family, config: dict[str, Any], kind: str, arguments: Mapping[str, Any]
) -> None:
    if kind not in family.heads:
        raise ValueError(f"{family.model_type} models have no {kind} here; save the backbone.")
    wanted = family.heads[kind].arguments(config)
    different = differences(wanted, {**dict.fromkeys(wanted), **arguments})
    if different:
        told = ", ".join(f"{key}={value!r}" for key, value in wanted.items() if key != "dropout")
        raise ValueError(
            f"{family.heads[kind].architecture} has another head than this model, in "
            f"{', '.join(different)}: build it with {kind}({told}), which task.build takes, too; "
            "or keep the model with model.save(path)."
        )


def _label_config(labels: Sequence[str], num_classes: int) -> dict[str, Any]:
    names = list(labels) or [f"LABEL_{number}" for number in range(num_classes)]
    if len(names) != num_classes:
        raise ValueError(
            f"The model has {num_classes} classes. Received {len(names)} labels: {names}"
        )
    return {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }


def _check_tokenizer(tokenizer: Tokenizer, config: Mapping[str, Any]) -> None:
    if tokenizer.vocab_size > config["vocab_size"]:
        raise ValueError(
            f"The tokenizer has {tokenizer.vocab_size} tokens, but the model's embedding has "
            f"{config['vocab_size']} rows."
        )
    if config["model_type"] in ("roberta", "xlm-roberta") and tokenizer.pad_id != 1:
        raise ValueError(
            f"{config['model_type']} counts positions from its padding token's number, 1. The "
            f"tokenizer's padding token has the number {tokenizer.pad_id}."
        )


def _note_inputs(path: Path, model: keras.Model) -> None:
    """Say in a tokenizer's config what the model takes, which readers cannot know from it."""
    config = json.loads(path.read_text("utf-8"))
    segments = "segment_ids" in model.input
    names = ["input_ids", *["token_type_ids"] * segments, "attention_mask"]
    positions = [layer for layer in model.layers if isinstance(layer, PositionEmbedding)]
    config |= {"model_input_names": names, "padding_side": "right"}
    if positions:
        config["model_max_length"] = positions[0].max_length
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _tensors_of(family: Family, config: Mapping[str, Any], kind: str | None) -> Iterator[Tensor]:
    prefix = "" if kind is None else family.prefix
    for tensor in family.tensors(config):
        names, copies = (
            tuple(prefix + x for x in given) for given in (tensor.names, tensor.copies)
        )
        yield replace(tensor, names=names, copies=copies)
    if kind is not None:
        yield from family.heads[kind].tensors(config)


def _updates_of(model: keras.Model) -> dict[str, _Update]:
    """Find what LoRA adds to kernels and embeddings, by the path of the variable."""
    found = {}
    for layer in model._flatten_layers():
        for kind, name in ((keras.layers.Dense, "kernel"), (keras.layers.Embedding, "embeddings")):
            if isinstance(layer, kind) and layer.lora_enabled:
                a, b = (getattr(layer, f"lora_{name}_{factor}") for factor in "ab")
                found[f"{layer.path}/{name}"] = (a, b, layer.lora_alpha / layer.lora_rank)
    return found


def _check_complete(
    variables: Mapping[str, keras.Variable],
    tensors: list[Tensor],
    updates: Mapping[str, _Update],
) -> None:
    """Refuse a model with variables that would not be written."""
    written = {tensor.variable for tensor in tensors}
    written |= {factor.path for a, b, _ in updates.values() for factor in (a, b)}
    left = sorted(variables.keys() - written)
    if left:
        raise ValueError(
            f"The format has no place for {len(left)} of the model's variables; leaving them out "
            f"would give other results: {', '.join(left[:8])}. Keep the model with "
            "model.save(path)."
        )


def _write_weights(
    directory: Path,
    tensors: list[Tensor],
    variables: Mapping[str, keras.Variable],
    updates: Mapping[str, _Update],
    max_bytes: int,
) -> None:
    """Write the weights, a file at a time, so that only one file's are copied in memory."""
    shards: list[list[Tensor]] = [[]]
    sizes = [0]
    for tensor in tensors:
        variable = variables[tensor.variable]
        size = int(np.prod(variable.shape)) * _dtype(variable).itemsize * (1 + len(tensor.copies))
        if shards[-1] and sizes[-1] + size > max_bytes:
            shards.append([])
            sizes.append(0)
        shards[-1].append(tensor)
        sizes[-1] += size
    places = {}
    for number, shard in enumerate(shards, start=1):
        name = "model.safetensors"
        if len(shards) > 1:
            name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        values: dict[str, np.ndarray] = {}
        for tensor in shard:
            value = _value(variables[tensor.variable], updates.get(tensor.variable))
            values.update(zip(tensor.names, tensor.split(value), strict=True))
            values |= dict.fromkeys(tensor.copies, values[tensor.names[0]])
        places.update(dict.fromkeys(values, name))
        # Readers that hand tensors to PyTorch ask for this note.
        save_file(values, directory / name, metadata={"format": "pt"})
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(sizes)}, "weight_map": places}
        text = json.dumps(index, indent=2, sort_keys=True)
        (directory / "model.safetensors.index.json").write_text(text + "\n", "utf-8")


def _dtype(variable: keras.Variable) -> np.dtype[Any]:
    return np.dtype(keras.backend.standardize_dtype(variable.dtype))


def _value(variable: keras.Variable, update: _Update | None) -> np.ndarray:
    # PyTorch does not give bfloat16 to NumPy; the way over float32 loses nothing.
    value: np.ndarray = keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))
    if update is not None:
        a, b, scale = update
        value = value + keras.ops.convert_to_numpy(scale * keras.ops.matmul(a, b))
    return value.astype(_dtype(variable))
