"""Optimizer updates in few passes over memory, on TensorFlow."""

import functools
from collections.abc import Sequence
from typing import Any

import keras


def fuse_updates(optimizer: keras.optimizers.Optimizer) -> None:
    """Let a Keras optimizer do the same updates in fewer passes over memory.

    On TensorFlow, Keras computes Adam and clipping as chains of operations, each of which reads and
    writes tensors as large as the model. Here Adam is the one kernel that TensorFlow has for it,
    weight decay one product, and the gradient of an embedding stays as sparse as it came until that
    kernel. A token that occurs twice in a batch counts with the sum of its gradients, as on JAX
    and PyTorch, where Keras on TensorFlow squares each for itself. The optimizer's class, settings
    and state stay what they are. Other backends and strategies that distribute are left alone.

    Args:
        optimizer: Any Keras optimizer; changed in place.
    """
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    if tf.distribute.has_strategy():
        return
    # There is no other replica to add, and TensorFlow keeps each graph that adds them for ever.
    optimizer._all_reduce_sum_gradients = lambda gradients: gradients
    if optimizer.global_clipnorm and not optimizer.clipnorm:
        optimizer._clip_gradients = lambda gradients: _clipped(gradients, optimizer.global_clipnorm)
    if type(optimizer) not in (keras.optimizers.Adam, keras.optimizers.AdamW) or optimizer.amsgrad:
        return

    def update_step(gradients: Sequence[Any], variables: Sequence[Any], rate: Any) -> None:
        _adam_step(optimizer, gradients, variables, rate)

    def apply_weight_decay(variables: Sequence[Any]) -> None:
        if optimizer.weight_decay:
            _decay(optimizer, [x for x in variables if optimizer._use_weight_decay(x)])

    # Keras's own would call it for each variable by way of the strategies left alone above.
    optimizer._backend_update_step = update_step
    if type(optimizer)._apply_weight_decay is keras.optimizers.Optimizer._apply_weight_decay:
        optimizer._apply_weight_decay = apply_weight_decay


def _adam_step(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[Any],
    variables: Sequence[Any],
    learning_rate: Any,
) -> None:
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
            gradient = tf.scatter_nd(gradient.indices[:, None], gradient.values, variable.shape)
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


def _decay(optimizer: keras.optimizers.Optimizer, variables: Sequence[Any]) -> None:
    rate = optimizer.learning_rate  # Once: a schedule computes it each time.

    @functools.cache
    def kept(dtype: str) -> Any:
        return 1.0 - keras.ops.cast(rate, dtype) * optimizer.weight_decay

    for variable in variables:
        variable.assign(variable * kept(keras.backend.standardize_dtype(variable.dtype)))


def _clipped(gradients: Sequence[Any], most: float) -> list[Any]:
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


def _values(gradient: Any) -> Any:
    return getattr(gradient, "values", gradient)


def _scaled(gradient: Any, scale: Any) -> Any:
    import tensorflow as tf

    values = _values(gradient)
    values = values * tf.cast(scale, values.dtype)
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return values
