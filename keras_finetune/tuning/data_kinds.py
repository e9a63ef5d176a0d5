"""What `fit` was given, and of what kind, told without importing what the data did not."""

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_finetune.data.batches import without_autotuning
from keras_finetune.tuning.input_checks import known_shape
from keras_finetune.tuning.numpy_batches import NumpyBatches

_MOST_SHAPES = 24


@dataclass(frozen=True)
class FitData:
    """What goes into `keras.Model.fit`.

    Attributes:
        x: Inputs, or a data set.
        y: Labels, if `x` is arrays.
        validation_data: A data set, `(x, y)` or `(x, y, sample_weight)`.
        fit_args: Further arguments.
    """

    x: Any
    y: Any = None
    validation_data: Any = None
    fit_args: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.validation_data, list):  # Keras takes [x, y] for (x, y).
            object.__setattr__(self, "validation_data", tuple(self.validation_data))


def is_tf_dataset(x: Any) -> bool:
    """Tell whether this is a `tf.data.Dataset`; TensorFlow is not imported for it."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(x, tensorflow.data.Dataset)


def is_data_set(x: Any) -> bool:
    """Tell whether this is a `tf.data.Dataset` or a `PyDataset`."""
    return is_tf_dataset(x) or isinstance(x, keras.utils.PyDataset)


def as_keras_reads(x: Any, model: keras.Model) -> Any:
    """Return data as Keras is to read it.

    A data set of this library is read without TensorFlow on JAX and PyTorch. A `tf.data.Dataset`
    whose options do not say otherwise is read without autotuning.

    Args:
        x: What goes into `fit`, `evaluate` or `predict`.
        model: The model. One with such methods of its own, as KerasHub's tasks have, gets the
            `tf.data.Dataset` that it may look for.
    """
    if hasattr(x, "plan") and keras.backend.backend() != "tensorflow" and _runs_as_keras(model):
        return NumpyBatches(x)
    if not is_tf_dataset(x) or x.options().autotune.enabled is not None:
        return x
    return without_autotuning(x)


def keras_fit_arguments(data: FitData, model: keras.Model) -> dict[str, Any]:
    """Return what Keras's `fit` gets of data, by name.

    Args:
        data: What goes into `fit`.
        model: The model whose `fit` it is.
    """
    x = as_keras_reads(data.x, model)
    validation_data = as_keras_reads(data.validation_data, model)
    found = {"x": x, "y": data.y, "validation_data": validation_data, **data.fit_args}
    if isinstance(x, NumpyBatches):  # Keras would shuffle the steps of any other `PyDataset`.
        found["shuffle"] = False
    return found


def _runs_as_keras(model: keras.Model) -> bool:
    methods = ("fit", "evaluate", "predict")
    return all(getattr(type(model), name) is getattr(keras.Model, name) for name in methods)


def is_arrays(x: Any) -> bool:
    """Tell whether this is arrays or tensors, or a dict, list or tuple of them."""
    if x is None or is_data_set(x):
        return False
    leaves = keras.tree.flatten(x)
    return bool(leaves) and all(_is_array(leaf) or _is_plain(leaf) for leaf in leaves)


def comes_in_order(x: Any) -> bool:
    """Tell whether this has an order of its own, as a `tf.data.Dataset` or a generator.

    Keras shuffles the rows of arrays, those of scipy.sparse or of another backend included, and the
    batches of a `PyDataset` that knows how many it has.
    """
    if isinstance(x, keras.utils.PyDataset):
        return getattr(x, "num_batches", None) is None
    return not is_arrays(x) and not any(hasattr(leaf, "shape") for leaf in keras.tree.flatten(x))


def arrays_in(x: Any, what: str) -> Iterator[np.ndarray]:
    """Yield the arrays in a nest of them; None, which stands for what is left out, holds none.

    Args:
        x: An array or tensor, or a dict, list or tuple of them.
        what: What to call it in an error.

    Raises:
        ValueError: A Python list of numbers or strings stands where an array should.
    """
    for leaf in keras.tree.flatten(x):
        if leaf is None:
            continue
        if _is_plain(leaf):
            raise ValueError(
                f"{what} holds a Python list of {type(leaf).__name__}. Give a numpy array: "
                "numpy.array(...). Text goes through "
                "keras_finetune.tasks.TextClassification(labels=..., tokenizer=...).dataset(...)."
            )
        if _is_array(leaf):
            tensor = keras.ops.is_tensor(leaf)
            yield keras.ops.convert_to_numpy(leaf) if tensor else np.asarray(leaf)


def count_rows(x: Any) -> int:
    """Return the number of rows of arrays."""
    first = next(arrays_in(x, "x"), None)
    return 0 if first is None or first.ndim == 0 else len(first)


def split_rows(x: Any, share: float) -> tuple[Any, Any]:
    """Divide arrays as Keras's `validation_split` does: the last rows are for validation.

    Args:
        x: An array or tensor, or a dict, list or tuple of them; None stays None.
        share: float, the share of the last rows.

    Example:
        >>> split_rows(np.arange(4), 0.25)
        (array([0, 1, 2]), array([3]))
    """
    kept = int(count_rows(x) * (1 - share))

    def rows(which: slice) -> Any:
        return keras.tree.map_structure(
            lambda leaf: None if leaf is None else next(arrays_in(leaf, "x"), leaf)[which], x
        )

    return rows(slice(kept)), rows(slice(kept, None))


def count_steps(x: Any, fit_args: Mapping[str, Any]) -> int | None:
    """Return the steps of an epoch, or None where only running it would tell.

    Args:
        x: What goes into `fit`.
        fit_args: Further arguments of `fit`.

    Example:
        >>> count_steps(np.zeros((100, 4)), {"batch_size": 32})
        4
    """
    if fit_args.get("steps_per_epoch"):
        return int(fit_args["steps_per_epoch"])
    if is_arrays(x):
        kept = math.floor(count_rows(x) * (1 - (fit_args.get("validation_split") or 0)))
        return math.ceil(kept / (fit_args.get("batch_size") or 32))
    if is_tf_dataset(x):
        steps = int(x.cardinality())
        return steps if steps >= 0 else None
    return getattr(x, "num_batches", None)


def count_shapes(x: Any, fit_args: Mapping[str, Any]) -> int:
    """Return how many shapes batches have, or the most that they may have where that is not known.

    Args:
        x: What goes into `fit`.
        fit_args: Further arguments of `fit`.

    Example:
        >>> count_shapes(np.zeros((100, 4)), {"batch_size": 32})
        2
    """
    plan = getattr(x, "plan", None)
    if plan is not None:
        return int(plan(0).num_shapes)
    steps = count_steps(x, fit_args) or _MOST_SHAPES
    specs = keras.tree.flatten(x.element_spec) if is_tf_dataset(x) else [None]
    shapes = [known_shape(spec) for spec in specs if hasattr(spec, "shape")]
    has_one_width = is_arrays(x) or (
        bool(shapes) and all(shape is not None and None not in shape[1:] for shape in shapes)
    )
    return min(steps, 2 if has_one_width else _MOST_SHAPES)  # The last batch may be smaller.


def tokens_per_step(x: Any, fit_args: Mapping[str, Any]) -> int:
    """Return about how many tokens a batch has; of rows that are no sequences, how many rows.

    Args:
        x: What goes into `fit`.
        fit_args: Further arguments of `fit`.

    Example:
        >>> tokens_per_step(np.zeros((100, 20), "int32"), {"batch_size": 8})
        160
    """
    plan = getattr(x, "plan", None)
    if plan is not None:
        first = plan(0)
        return int((first.sizes * first.widths).mean())
    if is_tf_dataset(x):
        spec = x.element_spec
        leaves = keras.tree.flatten(spec[0] if isinstance(spec, tuple) else spec)
        rows = next((shape[0] for shape in map(known_shape, leaves) if shape), None) or 32
    else:
        batch = x if is_arrays(x) else first_batch(x)
        leaves = keras.tree.flatten(batch if is_arrays(x) or isinstance(batch, dict) else batch[0])
        rows = fit_args.get("batch_size") or 32
    return int(rows * max(map(_tokens_of_a_row, leaves), default=1))


def _tokens_of_a_row(leaf: Any) -> int:
    shape = known_shape(leaf) or ()
    dtype = str(getattr(getattr(leaf, "dtype", None), "name", getattr(leaf, "dtype", "")))
    is_sequence = len(shape) > 2 or (len(shape) == 2 and "int" in dtype)
    return (shape[1] or 128) if is_sequence else 1


def first_batch(x: Any, side: str = "training data") -> Any:
    """Read one batch ahead.

    Args:
        x: What goes into `fit`.
        side: What to call it in an error.

    Raises:
        ValueError: A Python generator would lose its first batch, or there is none.
    """
    if is_arrays(x):
        return keras.tree.map_structure(
            lambda leaf: None if leaf is None else np.asarray(leaf)[:1], x
        )
    if is_tf_dataset(x):
        batch = next(iter(x.take(1).as_numpy_iterator()), None)
        if batch is None:
            raise ValueError(f"The {side} is empty: a tf.data.Dataset that gives no batch.")
        return batch
    if isinstance(x, keras.utils.PyDataset):
        return x[0]
    raise ValueError(
        "The model is not built, and reading ahead would cost the generator its first batch. Call "
        "the model on a batch before fit: model(batch)."
    )


def _is_array(leaf: Any) -> bool:
    if isinstance(leaf, np.ndarray) or type(leaf).__module__.startswith("pandas."):
        return True
    return bool(keras.ops.is_tensor(leaf)) and not keras.utils.is_keras_tensor(leaf)


def _is_plain(leaf: Any) -> bool:
    return isinstance(leaf, str | bytes | int | float | np.generic) or leaf is None
