"""A pretrained model from a directory, a file or a hub."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_finetune import models
from keras_finetune.data import Tokenizer
from keras_finetune.models.arguments import check_flag, checked_path
from keras_finetune.models.quantizing import few_objects_to_collect
from keras_finetune.pretrained.checkpoint import (
    Checkpoint,
    Weights,
    check_shapes,
    check_values,
)
from keras_finetune.pretrained.config_file import Config, label_names, read_config
from keras_finetune.pretrained.families import family_of, head_of
from keras_finetune.pretrained.family import HEAD_BUILDERS
from keras_finetune.pretrained.gguf_file import GGUFCheckpoint
from keras_finetune.pretrained.hub import download
from keras_finetune.pretrained.tensors import Tensor, expected_shapes

DTYPES = ("float32", "bfloat16", "float16", "mixed_bfloat16", "mixed_float16")
QUANTIZATIONS = ("int8", "int4")
_QUANTIZED = (keras.layers.Dense, keras.layers.Embedding)
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")


def load_pretrained(
    path: "str | os.PathLike[str]",
    *,
    head: bool = False,
    dtype: str | None = None,
    quantize: str | None = None,
) -> keras.Model:
    """Load a pretrained model with its tokenizer.

    The model is built by this library's own builders, as its `config.json` says, and its weights
    are read one tensor at a time. Nothing is built before config, names, shapes, values and
    tokenizer have been checked, and pickles are never read.

    Args:
        path: A directory in Hugging Face's format (`config.json`, `model.safetensors` or several
            with an index, tokenizer files); a `.gguf` file of the Llama family; or
            `"hf://organisation/name"`, with `"@revision"` after it if need be, which is downloaded
            to the hub's cache directory.
        head: Load the trained task head, too: of classification, question answering, masked or
            causal language modelling.
        dtype: `"float32"`, `"bfloat16"`, `"float16"`, or a mixed policy, which keeps weights in
            float32. Default: Keras's global policy.
        quantize: `"int8"` or `"int4"`: quantize the weights after loading, for a base that stays
            frozen; see `keras.Model.quantize`.

    Returns:
        A functional model as from `keras_finetune.models`: the backbone, or with `head` the whole.
        Its attribute `tokenizer` is a `keras_finetune.data.Tokenizer`, or None if there are no
        tokenizer files; `labels` a tuple of label names, empty without a classifier's head.

    Raises:
        FileNotFoundError: Something is missing there.
        ValueError: An argument is of a wrong kind, a file is malformed or unsafe, the model is of
            an unknown kind, or tensors or tokenizer do not fit the config.
        ConnectionError: The hub cannot be reached and its cache does not have the model.

    Example:
        >>> import tempfile
        >>> import keras_finetune as kft
        >>> backbone = kft.models.transformer_encoder(
        ...     100, num_layers=1, num_heads=2, hidden_dim=16, num_segments=2)
        >>> directory = kft.save_pretrained(backbone, tempfile.mkdtemp() + "/tiny")
        >>> load_pretrained(directory).output_shape
        (None, None, 16)
    """
    for name, value, known in (("dtype", dtype, DTYPES), ("quantize", quantize, QUANTIZATIONS)):
        if value is not None and value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}. Received: {value!r}.")
    check_flag(head=head)
    local = checked_path("path", path)
    source = download(str(path)) if str(path).startswith("hf://") else local
    config, weights, tokenizer = _open(source)
    family = family_of(config)
    config = family.complete(config, weights)
    arguments, tensors = family.arguments(config), family.tensors(config)
    labels: tuple[str, ...] = ()
    kind = None
    if head:
        kind = head_of(family, config)
        head_arguments = family.heads[kind].arguments(config)
        tensors = tensors + [
            _as_stored(_without_prefix(tensor, family.prefix), weights)
            for tensor in family.heads[kind].tensors(config)
        ]
        labels = label_names(config) if kind == "text_classifier" else ()
    expected = expected_shapes(tensors)
    check_shapes(weights.shapes, expected, family.ignored)
    if tokenizer is not None and tokenizer.vocab_size > config["vocab_size"]:
        raise ValueError(
            f"The tokenizer has {tokenizer.vocab_size} tokens, but the tensor "
            f'"{tensors[0].names[0]}" has {config["vocab_size"]} rows: they do not belong '
            "together."
        )
    compute_dtype = keras.dtype_policies.get(dtype or keras.config.dtype_policy()).compute_dtype
    for name in expected:
        check_values(name, weights.read(name), compute_dtype)

    with _dtype_policy(dtype), keras.StatelessScope():
        model = getattr(models, family.builder)(**arguments)
        if kind is not None:
            model = HEAD_BUILDERS[kind](model, **head_arguments)
        _initialize_with(model, tensors, weights)
    if quantize is not None:
        # Keras warns of every layer without weights that it asks.
        with few_objects_to_collect():
            model.quantize(quantize, filters=lambda layer: isinstance(layer, _QUANTIZED))
    model.tokenizer, model.labels, model.pretrained_config = tokenizer, labels, dict(config)
    return model


def _open(source: Path) -> tuple[Config, Weights, Tokenizer | None]:
    """Read what describes a model, and open its weights."""
    if source.suffix == ".gguf":
        weights = GGUFCheckpoint(source)
        return weights.config, weights, weights.tokenizer()
    if not source.is_dir():
        what = "is a file" if source.exists() else "does not exist"
        raise FileNotFoundError(
            f'"{source}" {what}; a directory in Hugging Face\'s format, a .gguf file or '
            f'"hf://organisation/name" is needed.'
        )
    config = read_config(source / "config.json")
    return config, Checkpoint(source, family_of(config).prefix), _read_tokenizer(source)


def _read_tokenizer(directory: Path) -> Tokenizer | None:
    there = {path.name.removesuffix(".gz") for path in directory.iterdir()}
    if there.intersection(_TOKENIZER_FILES):
        return Tokenizer.load(directory)
    sentencepiece = sorted(there & {"tokenizer.model", "spiece.model", "sentencepiece.bpe.model"})
    if sentencepiece:
        raise ValueError(
            f'"{directory}" has its tokenizer in {sentencepiece[0]} only. Convert it once where '
            "transformers is installed: AutoTokenizer.from_pretrained(path).save_pretrained(path) "
            "writes tokenizer.json."
        )
    return None


def _without_prefix(tensor: Tensor, prefix: str) -> Tensor:
    return replace(tensor, names=tuple(name.removeprefix(prefix) for name in tensor.names))


def _as_stored(tensor: Tensor, weights: Weights) -> Tensor:
    stored = [name for name in (tensor.names[0], *tensor.copies) if name in weights.shapes]
    return replace(tensor, names=(stored[0],)) if tensor.copies and stored else tensor


def _initialize_with(model: keras.Model, tensors: Iterable[Tensor], weights: Weights) -> None:
    """Let the variables of a model begin with the values of a checkpoint.

    In a stateless scope variables have no values yet. When it ends they are made one after the
    other, so that nothing but the model and one tensor is ever in memory.
    """
    variables = {variable.path: variable for variable in model.weights}
    for tensor in tensors:
        variables.pop(tensor.variable)._initializer = partial(_value, tensor, weights)
    if variables:
        raise RuntimeError(f"No tensor of the checkpoint is meant for {sorted(variables)}.")


def _value(tensor: Tensor, weights: Weights, shape: Sequence[int], dtype: Any = None) -> Any:
    value = tensor.join([weights.read(name) for name in tensor.names])
    # Cast before it becomes a tensor, so that no second copy in the file's dtype is made.
    value = value.astype(np.dtype(dtype), copy=False).reshape(shape)
    return keras.ops.convert_to_tensor(value, dtype=dtype)


@contextmanager
def _dtype_policy(dtype: str | None) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype or before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
