"""Checks of token ids against the embeddings that they enter."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_finetune.models.model_graph import model_graph
from keras_finetune.models.position_embedding import PositionEmbedding
from keras_finetune.tuning.data_kinds import arrays_in
from keras_finetune.tuning.input_checks import input_symbols

# Whose embeddings look their inputs up as they are.
_PACKAGES = ("keras", "keras_hub", "keras_finetune")


def check_token_ids(side: str, model: keras.Model, x: Any) -> None:
    """Refuse token ids for which an embedding has no row, and sequences of too many of them.

    Only inputs that enter an embedding as they are are looked at: what a model computes from other
    numbers is its own affair.

    Args:
        side: What to call the data in an error.
        model: The model; one with a `call` of its own is not looked into.
        x: An array, or a dict, list or tuple of them.

    Example:
        >>> import keras, numpy as np
        >>> ids = keras.Input((2,), dtype="int32")
        >>> model = keras.Model(ids, keras.layers.Embedding(9, 4, name="words")(ids))
        >>> check_token_ids("training data", model, np.array([[1, 9]]))
        Traceback (most recent call last):
        ...
        ValueError: The training data has token ids from 1 to 9, but the embedding 'words' has ...
    """
    if isinstance(x, Mapping) and "token_ids" in x:
        _check_length(side, model, x["token_ids"])
    if isinstance(x, Mapping):
        _check_masks(side, model, x)
    symbols, leaves = input_symbols(model, x), keras.tree.flatten(x)
    ids = {id(symbol): leaf for symbol, leaf in zip(symbols, leaves, strict=True)}
    for symbol, table in _embedded(model):
        for array in arrays_in(ids.get(id(symbol)), "x"):
            if array.dtype.kind == "f" and (array % 1).any():
                raise ValueError(
                    f"The {side} has token ids with fractions, such as "
                    f"{array[array % 1 != 0][0]}, for the embedding {table.name!r}. Token ids are "
                    "ints, as a tokenizer gives them."
                )
            if array.dtype.kind not in "iu" or not array.size:
                continue
            smallest, largest = int(array.min()), int(array.max())
            if smallest < 0 or largest >= table.input_dim:
                raise ValueError(
                    f"The {side} has token ids from {smallest} to {largest}, but the embedding "
                    f"{table.name!r} has rows 0 to {table.input_dim - 1}. Give the model the "
                    "vocab_size of the tokenizer that made the ids."
                )


def _embedded(model: keras.Model) -> Iterator[tuple[Any, keras.layers.Embedding]]:
    """Each input of a model that is what an embedding is called with, and the embedding."""
    graph = model_graph(model)
    if graph is None:
        return
    for step in graph.steps:
        layer = step.operation
        # A subclass of the user's may do anything with its ids.
        package = type(layer).__module__.split(".")[0]
        if isinstance(layer, keras.layers.Embedding) and package in _PACKAGES:
            for number in set(step.inputs.values()).intersection(graph.inputs):
                yield graph.symbols[number], layer


def _check_masks(side: str, model: keras.Model, x: Mapping[str, Any]) -> None:
    """Refuse masks of another length than their token ids, and padding on the left."""
    ours = any(
        type(layer).__module__.startswith("keras_finetune.")
        for layer in model._flatten_layers(include_self=False)
    )
    for name in x:
        of_mask = f"{name.removesuffix('token_ids')}padding_mask" if isinstance(name, str) else ""
        if not of_mask or not name.endswith("token_ids") or of_mask not in x:
            continue
        for ids, mask in zip(arrays_in(x[name], "x"), arrays_in(x[of_mask], "x"), strict=False):
            if ids.ndim != 2 or mask.ndim != 2:
                continue
            if ids.shape[1] != mask.shape[1]:
                raise ValueError(
                    f"The {side} has {ids.shape[1]} tokens a row in {name!r}, but "
                    f"{mask.shape[1]} in {of_mask!r}. Give one of each for every token."
                )
            real = np.asarray(mask > 0)
            padded = real.any(axis=1) & ~real.all(axis=1)
            # Masks may have holes; here all padding is at the left.
            rising = np.all(real[:, :-1] <= real[:, 1:], axis=1)
            if ours and padded.any() and rising[padded].all():
                raise ValueError(
                    f"The {side} has padding on the left, first in row {padded.argmax()} of "
                    f"{of_mask!r}. The model takes sequences that are padded on the right: put "
                    "real tokens first, as this library's tokenizers and data sets do."
                )


def _check_length(side: str, model: keras.Model, token_ids: Any) -> None:
    layers = model._flatten_layers(include_self=False)
    learned = [layer for layer in layers if isinstance(layer, PositionEmbedding)]
    longest = next((each.max_length for each in learned if each.name == "position_embedding"), None)
    length = next((array.shape[-1] for array in arrays_in(token_ids, "x") if array.ndim), 0)
    if longest is not None and length > longest:
        raise ValueError(
            f"The {side} has sequences of {length} tokens, but the model has only {longest} "
            f"positions. Truncate them to {longest}, or build the model with a greater max_length."
        )
