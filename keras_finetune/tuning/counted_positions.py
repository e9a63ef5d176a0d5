"""Positions that no loss counts, such as a prompt's: the head computes nothing for them."""

from typing import Any

import keras
import numpy as np

from keras_finetune.data.pipeline import planned_dataset
from keras_finetune.models.smoothed_crossentropy import SmoothedCrossentropy
from keras_finetune.models.token_accuracy import TokenAccuracy
from keras_finetune.tuning.compilation import compiled_with
from keras_finetune.tuning.frozen_prefix import COUNTED
from keras_finetune.tuning.input_checks import own_step_method
from keras_finetune.tuning.prefix_cut import PrefixCut

# Losses whose value at a position depends on nothing but that position.
_LOSSES = (keras.losses.SparseCategoricalCrossentropy, SmoothedCrossentropy)
_BATCHES_LOOKED_AT = 8
# Of more than that, choosing positions would cost what it saves.
_MOST_COUNTED = 0.8


def counts_in_part(cut: PrefixCut | None, x: Any) -> bool:
    """Tell whether a model's loss leaves out so much of the data that it is of use to know.

    Args:
        cut: Of a compiled model, as for `cut_model`.
        x: What goes into `fit`.

    Returns:
        Whether `only_counted` gives the same losses, gradients and metrics, up to rounding.
    """
    if cut is None or cut.head is None or not _has_weights_of_tokens(x):
        return False
    model = cut.graph.model
    if own_step_method(model) is not None:
        return False
    compiled = compiled_with(model)
    loss = compiled.get("loss")
    # Others count the positions that are left out, if only by dividing by how many there are.
    if loss is None or type(loss) not in _LOSSES or loss.reduction != "mean_with_sample_weight":
        return False
    of_tokens = all(type(metric) is TokenAccuracy for metric in compiled["weighted_metrics"] or ())
    if compiled.get("metrics") or compiled.get("loss_weights") or not of_tokens:
        return False
    return _share_counted(x) <= _MOST_COUNTED


def only_counted(x: Any) -> Any:
    """Keep the labels and weights of the positions that count, and say which these are.

    Args:
        x: A data set of this library whose weights, (batch, length), are 0 where nothing counts;
            any other comes back as it is.

    Returns:
        The data set with `COUNTED` among its inputs, for a model in `cut_model`; labels and
        weights are (batch, count). Rows with fewer positions are filled up with others of theirs,
        of weight 0.
    """
    if not _has_weights_of_tokens(x):
        return x
    import tensorflow as tf

    def read(rows: np.ndarray, width: int, rng: np.random.Generator) -> tuple[Any, ...]:
        inputs, labels, weights = x.read(rows, width, rng)
        positions = _positions(weights)
        labels, weights = (np.take_along_axis(part, positions, 1) for part in (labels, weights))
        return {**inputs, COUNTED: positions}, labels, weights

    inputs, *rest = x.element_spec
    inputs = {**inputs, COUNTED: tf.TensorSpec((None, None), tf.int32)}
    signature = (inputs, *(tf.TensorSpec((None, None), part.dtype) for part in rest))
    return planned_dataset(x.plan, read, shuffled=x.shuffled, seed=x.seed, signature=signature)


def _has_weights_of_tokens(x: Any) -> bool:
    """Whether this is a data set of this library, of `(inputs, labels, weights)` of tokens."""
    spec: tuple[Any, ...] = x.element_spec if getattr(x, "read", None) is not None else ()
    if len(spec) != 3 or not isinstance(spec[0], dict):
        return False
    return [len(getattr(part, "shape", ())) for part in spec[1:]] == [2, 2]


def _share_counted(x: Any) -> float:
    """Share of the positions that `only_counted` keeps, by some batches."""
    plan = x.plan(0)
    steps = np.unique(np.linspace(0, plan.num_steps - 1, _BATCHES_LOOKED_AT).astype(int))
    kept = total = 0
    for step in steps.tolist():
        rows, width = plan[step]
        _, labels, weights = x.read(rows, width, np.random.default_rng(0))
        if labels.shape != weights.shape:
            return 1.0
        kept += _positions(weights).size
        total += weights.size
    return kept / max(total, 1)


def _positions(weights: np.ndarray) -> np.ndarray:
    """Those of weights that are not 0 first, in order; as many for each row as one of them has."""
    length = weights.shape[1]
    most = int((weights != 0).sum(axis=1).max())
    if keras.backend.backend() == "jax":
        # Each shape is compiled anew, so that there are to be few.
        most = -(-length // 4) if 4 * most <= length else length
    found: np.ndarray = np.argsort(weights == 0, axis=1, kind="stable")[:, : max(most, 1)]
    return found.astype(np.int32)
