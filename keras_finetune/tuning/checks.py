"""Checks of what goes into `fit`, made before the first step."""

import contextlib
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_finetune.data.examples import Examples
from keras_finetune.tuning.data_kinds import (
    arrays_in,
    count_rows,
    first_batch,
    is_arrays,
    is_data_set,
    is_tf_dataset,
    split_rows,
)
from keras_finetune.tuning.input_checks import (
    check_inputs,
    input_symbols,
    known_shape,
    refuse_no_labels,
    takes_text,
)
from keras_finetune.tuning.label_checks import (
    check_label_shape,
    check_labels,
    num_classes,
    num_outputs,
)
from keras_finetune.tuning.label_pairs import Target, pair_labels
from keras_finetune.tuning.token_checks import check_token_ids


def check_fit_data(
    model: keras.Model,
    x: Any,
    y: Any = None,
    validation_data: Any = None,
    sample_weight: Any = None,
    *,
    loss: Any = None,
    validation_split: float | None = None,
    batch_size: int | None = None,
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
        validation_split: float, the share of arrays, at their end, that is for validation.
        batch_size: int, rows of a batch, if `x` is arrays.

    Raises:
        ValueError: With what was received, what was expected, and the fix.
    """
    if x is None:
        raise ValueError("fit needs data: fit(x, y) with arrays, or fit(dataset).")
    if validation_split and is_data_set(x):
        raise ValueError(
            "validation_split divides arrays, not a data set. Divide the examples, with "
            "keras_finetune.data.split, and give validation_data=task.dataset(...)."
        )
    if batch_size is not None and is_data_set(x):
        raise ValueError(
            "batch_size divides arrays into batches; a data set has its own. Leave it out, and "
            "make the data set with it: task.dataset(..., batch_size=...), dataset.batch(...)."
        )
    train_counts = check_side("training data", model, loss, x, y, sample_weight)
    if validation_data is None:
        if train_counts is not None and validation_split and is_arrays(x):
            _check_classes(*_counts_of_split(model, loss, y, sample_weight, validation_split))
        _check_classes(train_counts, None)
        return
    arrays = isinstance(validation_data, tuple | list)
    if arrays and len(validation_data) not in (2, 3):
        raise ValueError(
            "validation_data must be (x, y), (x, y, sample_weight) or a data set. Received a "
            f"{type(validation_data).__name__} of {len(validation_data)}."
        )
    parts = tuple(validation_data) if arrays else (validation_data,)
    validation_counts = check_side("validation data", model, loss, *parts)
    _check_classes(train_counts, validation_counts)


def _refuse_examples(side: str, x: Any) -> None:
    """Refuse rows that no task has encoded yet, and the name of a file of them."""
    if isinstance(x, str | Path):
        given, received = repr(str(x)), f"{str(x)!r}, a name or a path"
    elif isinstance(x, Examples):
        given, received = "examples", f"{x!r}, which are not encoded"
    else:
        return
    raise ValueError(
        f"The {side} must be arrays or a data set. Received: {received}. Give "
        f"task.dataset({given}), where task is what the model was built with, such as a "
        "keras_finetune.tasks.TextClassification."
    )


def _check_classes(train: "np.ndarray | None", validation: "np.ndarray | None") -> None:
    """Refuse a single class, and classes that only the validation data has."""
    if train is None:
        return
    seen = np.flatnonzero(train)
    if len(seen) == 1:
        raise ValueError(
            f"Every training label is class {seen[0]}, so that there is nothing to tell apart. "
            "Give rows of at least two classes; shuffle before you split."
        )
    if validation is not None:
        unseen = np.setdiff1d(np.flatnonzero(validation), seen)
        if len(unseen):
            raise ValueError(
                f"The validation data has the class(es) {unseen.tolist()}, of which the training "
                "data has no row. Split with stratify (validation_split takes the last rows as "
                "they come), or leave those rows out."
            )


def _counts_of_split(
    model: keras.Model, loss: Any, y: Any, weight: Any, share: float
) -> "tuple[np.ndarray | None, np.ndarray | None]":
    """Count the labels of the first rows and of the last, as Keras divides them."""
    labels, weights = split_rows(y, share), split_rows(weight, share)
    if not count_rows(labels[0]):
        return None, None  # Keras refuses it.
    sides = zip(("training data", "validation data"), labels, weights, strict=True)
    train, validation = (
        _check_targets(side, _targets(side, model, loss, *parts)) for side, *parts in sides
    )
    return train, validation


def check_side(
    side: str, model: keras.Model, loss: Any, x: Any, y: Any = None, weight: Any = None
) -> "np.ndarray | None":
    """Check one side of the data and count its labels by class, where they are known.

    Args:
        side: What to call it in an error; of `"validation data"` a first batch is read.
        model: The model that it goes through.
        loss: The loss, which says what labels may be.
        x: As for `keras.Model.fit`.
        y: Labels, if `x` is arrays.
        weight: Weights of the rows, if `x` is arrays.

    Raises:
        ValueError: As of `check_fit_data`.
    """
    _refuse_examples(side, x)
    for name, given in (("y", y), ("sample_weight", weight)):
        if given is not None and is_data_set(x):
            raise ValueError(
                f"The {side} is a data set, which itself gives labels and weights: (inputs, "
                f"labels) or (inputs, labels, weights). Leave {name} out."
            )
    if is_tf_dataset(x) and not _takes_raw_data(model):
        _check_spec(side, model, loss, x.element_spec)
    counts = getattr(x, "label_counts", None)
    if counts is not None:
        units = num_outputs(model)
        # One output tells two classes apart, unless the loss wants a score of each.
        classes = 2 if units == 1 and num_classes(model, loss) != 1 else units
        if classes is not None and len(counts) != classes:
            raise ValueError(
                f"The {side} has {len(counts)} classes, but the model has {units} outputs. Build "
                "the model with the same task as the data."
            )
        return np.asarray(counts)
    if is_arrays(x):
        return _check_arrays(side, model, loss, x, y, weight)
    is_py_dataset = isinstance(x, keras.utils.PyDataset)
    if (is_tf_dataset(x) and int(x.cardinality()) == 0) or (is_py_dataset and x.num_batches == 0):
        kind = "tf.data.Dataset" if is_tf_dataset(x) else "PyDataset"
        raise ValueError(f"The {side} is empty: a {kind} of no batches.")
    # Keras reads the first batch of a PyDataset ahead, too.
    if is_py_dataset or (is_tf_dataset(x) and side == "validation data"):
        _check_batch(side, model, loss, first_batch(x, side), is_new=is_py_dataset)
    return None


def _check_batch(side: str, model: keras.Model, loss: Any, batch: Any, *, is_new: bool) -> None:
    """Check a first batch; of a `tf.data.Dataset` the inputs were checked by their specs."""
    x, *others = batch if isinstance(batch, tuple | list) else (batch,)
    if is_new and not _takes_raw_data(model):
        if not others:
            refuse_no_labels(side, model, loss, in_batches=True)
        check_inputs(side, model, x)
        check_token_ids(side, model, x)
    y, weight, *_ = (*others, None, None)
    _check_targets(side, _targets(side, model, loss, y, weight))


def _check_arrays(
    side: str, model: keras.Model, loss: Any, x: Any, y: Any, weight: Any
) -> "np.ndarray | None":
    rows, raw = count_rows(x), _takes_raw_data(model)
    if rows == 0:
        raise ValueError(f"The {side} is empty. Give at least one row.")
    first = ""
    symbols = input_symbols(model, x)
    for tree, called in ((x, "x"), (y, "y"), (weight, "sample_weight")):
        for place, (path, leaf) in enumerate(keras.tree.flatten_with_path(tree)):
            name = called + "".join(f"[{key!r}]" for key in path)
            for array in arrays_in(leaf, f"{called} of the {side}"):
                first = first or name
                if array.ndim == 0 or len(array) != rows:
                    raise ValueError(
                        f"The {side} has {rows} rows in {first}, but "
                        f"{len(array) if array.ndim else 1} in {name}. Give one of each for every "
                        "row."
                    )
                of_text = tree is x and takes_text(model, symbols[place])
                if not (tree is x and raw):
                    _check_dtype(f"{name} of the {side}", array.dtype, of_text)
                    _check_finite(f"{name} of the {side}", array)
    weights = list(arrays_in(weight, "sample_weight"))
    if weights and not any(array.any() for array in weights):
        raise ValueError(
            f"sample_weight of the {side} is 0 in every row, so that nothing would count. Give "
            "the rows that are to count a weight above 0."
        )
    if not raw:
        if y is None:
            refuse_no_labels(side, model, loss)
        check_inputs(side, model, x)
        check_token_ids(side, model, x)
    return _check_targets(side, _targets(side, model, loss, y, weight))


def _targets(side: str, model: keras.Model, loss: Any, y: Any, weight: Any) -> list[Target]:
    """What labels are known of; what a preprocessor makes of labels of tokens is not."""
    targets = pair_labels(side, model, loss, y, weight)
    if _takes_raw_data(model):
        return [each for each in targets if len(known_shape(each.output) or ()) == 2]
    return targets


def _takes_raw_data(model: keras.Model) -> bool:
    """Whether a model preprocesses what it is given, as KerasHub's tasks do."""
    return getattr(model, "preprocessor", None) is not None


def _check_dtype(what: str, dtype: Any, of_text: bool) -> None:
    if np.dtype(dtype).kind in "OUS" and not of_text:
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
    x, *others = spec if isinstance(spec, tuple) else (spec,)
    symbols = input_symbols(model, x)
    for place, leaf in enumerate(keras.tree.flatten((x, others))):
        of_text = place < len(symbols) and takes_text(model, symbols[place])
        if getattr(getattr(leaf, "dtype", None), "name", "") == "string" and not of_text:
            raise ValueError(
                f"The {side} is a tf.data.Dataset of strings, but a model takes numbers. Text goes "
                "through keras_finetune.tasks.TextClassification(...).dataset(...), or through a "
                "preprocessing layer in your pipeline."
            )
    if not others:
        refuse_no_labels(side, model, loss, in_batches=True)
    check_inputs(side, model, x)
    for target in pair_labels(side, model, loss, *others[:1] or (None,)):
        _check_target_shape(side, target)


def _check_targets(side: str, targets: list[Target]) -> "np.ndarray | None":
    """Check labels, and count them by class if they are of one output."""
    counts = None
    for target in targets:
        _check_target_shape(side, target)
        for labels in _as_arrays(target.labels):
            where, output = _where(side, target), known_shape(target.output)
            counts = check_labels(where, target.loss, output, labels, _uncounted(target, labels))
    return counts if len(targets) == 1 else None


def _check_target_shape(side: str, target: Target) -> None:
    shape = known_shape(target.labels)
    if shape is not None:
        check_label_shape(_where(side, target), target.loss, known_shape(target.output), shape)


def _where(side: str, target: Target) -> str:
    return f"{side} of the output {target.name!r}" if target.name else side


def _as_arrays(leaf: Any) -> list[np.ndarray]:
    """An array or tensor in a list; what is none, such as a ragged one, in no list."""
    is_array = getattr(leaf, "shape", None) is not None and not isinstance(leaf, np.generic)
    return [each for each in arrays_in(leaf, "y") if each.ndim] if is_array else []


def _uncounted(target: Target, labels: np.ndarray) -> "np.ndarray | None":
    """Which labels Keras leaves out, so that they may be of no class."""
    # But for JAX, cross-entropies fail at a label that is no class, whatever its weight. PyTorch's
    # leaves one such label out.
    if keras.backend.backend() != "jax":
        return labels == -100 if keras.backend.backend() == "torch" else None
    # What its output's mask covers is known in the step only.
    if getattr(target.output, "_keras_mask", None) is not None:
        return np.ones(labels.shape, bool)
    for weight in _as_arrays(target.weight):
        while weight.ndim < labels.ndim:
            weight = weight[..., None]
        with contextlib.suppress(ValueError):
            return np.broadcast_to(weight == 0, labels.shape)
    return None
