"""Checks of what goes into `fit`, made before the first step."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_finetune.tuning.data_kinds import (
    arrays_in,
    count_rows,
    first_batch,
    is_arrays,
    is_tf_dataset,
)
from keras_finetune.tuning.input_checks import (
    check_inputs,
    known_shape,
    refuse_no_labels,
    trains_as_keras,
)
from keras_finetune.tuning.label_checks import (
    check_classes,
    check_label_shape,
    check_labels,
    num_outputs,
)


def check_fit_data(
    model: keras.Model,
    x: Any,
    y: Any = None,
    validation_data: Any = None,
    sample_weight: Any = None,
    *,
    loss: Any = None,
) -> None:
    """Refuse data that would cost a run: empty, unequal lengths, NaN, wrong labels.

    Arrays are checked whole, data sets of `keras_finetune.tasks` by the labels they counted, and
    the validation data of other `tf.data` pipelines by its first batch. A training pipeline of the
    user's is not read ahead, since that would change its random order.

    Args:
        model: The model to be trained.
        x: What goes into `fit`.
        y: Labels, if `x` is arrays.
        validation_data: As for `keras.Model.fit`.
        sample_weight: As for `keras.Model.fit`.
        loss: The loss, which says what labels may be.

    Raises:
        ValueError: With what was received, what was expected, and the fix.
    """
    if x is None:
        raise ValueError("fit needs data: fit(x, y) with arrays, or fit(dataset).")
    train_counts = _check_side("training data", model, loss, x, y, sample_weight)
    if validation_data is None:
        check_classes(train_counts, None)
        return
    arrays = isinstance(validation_data, tuple | list)
    if arrays and len(validation_data) not in (2, 3):
        raise ValueError(
            "validation_data must be (x, y), (x, y, sample_weight) or a data set. Received a "
            f"{type(validation_data).__name__} of {len(validation_data)}."
        )
    parts = tuple(validation_data) if arrays else (validation_data,)
    validation_counts = _check_side("validation data", model, loss, *parts)
    check_classes(train_counts, validation_counts)


def _check_side(
    side: str, model: keras.Model, loss: Any, x: Any, y: Any = None, weight: Any = None
) -> "np.ndarray | None":
    """Check one side of the data and count its labels by class, where they are known."""
    units = num_outputs(model)
    if is_tf_dataset(x) and not _takes_raw_data(model):
        _check_spec(side, model, loss, x.element_spec)
    counts = getattr(x, "label_counts", None)
    if counts is not None:
        if units is not None and len(counts) != units:
            raise ValueError(
                f"The {side} has {len(counts)} classes, but the model has {units} outputs. Build "
                "the model with the same task as the data."
            )
        return np.asarray(counts)
    if is_arrays(x):
        return _check_arrays(side, model, loss, x, y, weight)
    if is_tf_dataset(x):
        if int(x.cardinality()) == 0:
            raise ValueError(f"The {side} is empty: a tf.data.Dataset of no batches.")
        if side == "validation data":
            batch = first_batch(x)
            if isinstance(batch, tuple) and len(batch) > 1:
                check_labels(side, loss, units, np.asarray(batch[1]))
    return None


def _check_arrays(
    side: str, model: keras.Model, loss: Any, x: Any, y: Any, weight: Any
) -> "np.ndarray | None":
    rows, raw = count_rows(x), _takes_raw_data(model)
    if rows == 0:
        raise ValueError(f"The {side} is empty. Give at least one row.")
    for name, tree in (("x", x), ("y", y), ("sample_weight", weight)):
        what = f"{name} of the {side}"
        for array in arrays_in(tree, what):
            if array.ndim == 0 or len(array) != rows:
                raise ValueError(
                    f"The {side} has {rows} rows in x, but {len(array) if array.ndim else 1} in "
                    f"{name}. Give one of "
                    "each for every row."
                )
            if name == "x" and raw:
                continue
            _check_dtype(what, array.dtype)
            _check_finite(what, array)
    if not raw:
        if y is None:
            refuse_no_labels(side, model, loss)
        check_inputs(side, model, x)
        _check_token_ids(side, model, x)
    labels = list(arrays_in(y, "y"))
    _check_label_shapes(side, model, loss, labels)
    if len(labels) != 1:
        return None
    return check_labels(side, loss, num_outputs(model), labels[0])


def _takes_raw_data(model: keras.Model) -> bool:
    """Whether a model preprocesses what it is given, as KerasHub's tasks do."""
    return getattr(model, "preprocessor", None) is not None


def _check_dtype(what: str, dtype: Any) -> None:
    if np.dtype(dtype).kind in "OUS":
        raise ValueError(
            f"{what} has dtype {np.dtype(dtype)}, but a model takes numbers. Text goes through "
            "keras_finetune.tasks.TextClassification(labels=..., tokenizer=...).dataset(...)."
        )


def _check_finite(what: str, array: np.ndarray) -> None:
    with np.errstate(over="ignore"):  # The sum of large numbers: the rows are looked at below.
        if array.dtype.kind != "f" or np.isfinite(array.sum()):
            return
    bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{what} holds NaN or infinity in {len(bad)} row(s), the first is row {bad[0]}. Drop "
            "or mend them."
        )


def _check_spec(side: str, model: keras.Model, loss: Any, spec: Any) -> None:
    for leaf in keras.tree.flatten(spec):
        dtype = getattr(leaf, "dtype", None)
        if dtype is not None and getattr(dtype, "name", "") == "string":
            raise ValueError(
                f"The {side} is a tf.data.Dataset of strings, but a model takes numbers. Text goes "
                "through keras_finetune.tasks.TextClassification(...).dataset(...), or through a "
                "preprocessing layer in your pipeline."
            )
    if not isinstance(spec, tuple) or len(spec) == 1:
        refuse_no_labels(side, model, loss, in_batches=True)
    check_inputs(side, model, spec[0] if isinstance(spec, tuple) else spec)
    if isinstance(spec, tuple) and len(spec) > 1:
        _check_label_shapes(side, model, loss, keras.tree.flatten(spec[1]))


def _check_label_shapes(side: str, model: keras.Model, loss: Any, labels: list[Any]) -> None:
    """Check those of one output; what a training of the model's own takes is not known."""
    shape = known_shape(labels[0]) if len(labels) == 1 else None
    if shape is not None and trains_as_keras(model):
        check_label_shape(side, loss, num_outputs(model), shape)


def _check_token_ids(side: str, model: keras.Model, x: Any) -> None:
    layers = model._flatten_layers(include_self=False)
    tables = [layer for layer in layers if isinstance(layer, keras.layers.Embedding)]
    named = isinstance(x, Mapping) and "token_ids" in x
    arrays = [a for a in arrays_in(x["token_ids"] if named else x, "x") if a.dtype.kind in "iu"]
    if named:
        tables = [table for table in tables if table.name == "token_embedding"]
        longest = next((x.max_length for x in layers if x.name == "position_embedding"), None)
        if longest is not None and arrays and arrays[0].shape[-1] > longest:
            raise ValueError(
                f"The {side} has sequences of {arrays[0].shape[-1]} tokens, but the model has only "
                f"{longest} positions. Truncate them to {longest}, or build the model with a "
                "greater max_length."
            )
    if len(arrays) != 1 or len(tables) != 1 or not arrays[0].size:
        return
    smallest, largest = int(arrays[0].min()), int(arrays[0].max())
    if smallest < 0 or largest >= tables[0].input_dim:
        raise ValueError(
            f"The {side} has token ids from {smallest} to {largest}, but the embedding "
            f"{tables[0].name!r} has rows 0 to {tables[0].input_dim - 1}. Give the model the "
            "vocab_size of the tokenizer that made the ids."
        )
