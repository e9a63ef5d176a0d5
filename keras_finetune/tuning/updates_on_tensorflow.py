"""Adam, weight decay and clipping in few passes over memory, on TensorFlow."""

import functools
from collections.abc import Sequence
from typing import Any

import keras


def adam_step(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[Any],
    variables: Sequence[Any],
    learning_rate: Any,
) -> None:
    """Update by the one kernel that TensorFlow has for Adam."""
    import tensorflow as tf

    @functools.cache
    def scalars(dtype: str) -> dict[str, Any]:
        """What is the same for all variables, once: each operation takes time to trace."""
        step = tf.cast(optimizer.iterations + 1, dtype)
        beta_1, beta_2 = (tf.cast(x, dtype) for x in (optimizer.beta_1, optimizer.beta_2))
        return {
            "beta1_power": beta_1**step,
            "beta2_power": beta_2**step,
            "lr": tf.cast(learning_rate, dtype),
            "beta1": beta_1,
            "beta2": beta_2,
            "epsilon": tf.cast(optimizer.epsilon, dtype),
        }

    for gradient, variable in zip(gradients, variables, strict=True):
        index = optimizer._get_variable_index(variable)
        if isinstance(gradient, tf.IndexedSlices):
            # Clipping has summed what stands for the same row.
            summed = gradient if optimizer.global_clipnorm else _summed_by_row(gradient)
            gradient = _dense(summed, variable.shape[0])
        dtype = keras.backend.standardize_dtype(variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(optimizer._momentums[index]),
            v=_handle(optimizer._velocities[index]),
            grad=tf.cast(gradient, dtype),
            **scalars(dtype),
        )


def _handle(variable: Any) -> Any:
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle


def decay(optimizer: keras.optimizers.Optimizer, variables: Sequence[Any]) -> None:
    """Decay weights, each by one product."""
    rate = optimizer.learning_rate  # Once: a schedule computes it each time.

    @functools.cache
    def kept(dtype: str) -> Any:
        return 1.0 - keras.ops.cast(rate, dtype) * optimizer.weight_decay

    for variable in variables:
        variable.assign(variable * kept(keras.backend.standardize_dtype(variable.dtype)))


def clipped(gradients: Sequence[Any], most: float) -> list[Any]:
    """Scale all gradients so that their common norm is at most `most`; NaN stays NaN."""
    import tensorflow as tf

    gradients = [_summed_by_row(x) if isinstance(x, tf.IndexedSlices) else x for x in gradients]
    squares = [2.0 * tf.nn.l2_loss(_values(x)) for x in gradients if x is not None]
    norm = tf.sqrt(tf.add_n([tf.cast(x, "float32") for x in squares]))
    scale = most / tf.maximum(norm, most)
    return [None if x is None else _scaled(x, scale) for x in gradients]


def _summed_by_row(gradient: Any) -> Any:
    import tensorflow as tf

    rows, position = tf.unique(tf.reshape(gradient.indices, (-1,)))
    values = tf.math.unsorted_segment_sum(gradient.values, position, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def _dense(gradient: Any, num_rows: int) -> Any:
    """Fill in the rows that are 0, by all processors; TensorFlow's scatter does it by one."""
    import tensorflow as tf

    rows, values = gradient.indices, gradient.values
    numbers = tf.range(1, tf.shape(values)[0] + 1)
    place = tf.tensor_scatter_nd_update(tf.zeros(num_rows, tf.int32), rows[:, None], numbers)
    before = [(1, 0), *[(0, 0)] * (values.shape.rank - 1)]
    return tf.gather(tf.pad(values, before), place)


def _values(gradient: Any) -> Any:
    return getattr(gradient, "values", gradient)


def _scaled(gradient: Any, scale: Any) -> Any:
    import tensorflow as tf

    values = _values(gradient)
    values = values * tf.cast(scale, values.dtype)
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return values
