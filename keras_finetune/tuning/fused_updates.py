"""Optimizer updates in few passes over memory, on TensorFlow."""

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

    def update_step(gradient: Any, variable: Any, learning_rate: Any) -> None:
        _adam_step(optimizer, gradient, variable, learning_rate)

    def apply_weight_decay(variables: Sequence[Any]) -> None:
        for variable in variables if optimizer.weight_decay else ():
            if optimizer._use_weight_decay(variable):
                _decay(optimizer, variable)

    optimizer.update_step = update_step
    if type(optimizer)._apply_weight_decay is keras.optimizers.Optimizer._apply_weight_decay:
        optimizer._apply_weight_decay = apply_weight_decay


def _adam_step(
    optimizer: keras.optimizers.Optimizer, gradient: Any, variable: Any, learning_rate: Any
) -> None:
    import tensorflow as tf

    index = optimizer._get_variable_index(variable)
    dtype = variable.dtype
    step = tf.cast(optimizer.iterations + 1, dtype)
    beta_1, beta_2 = (tf.cast(x, dtype) for x in (optimizer.beta_1, optimizer.beta_2))
    if isinstance(gradient, tf.IndexedSlices):
        gradient = tf.scatter_nd(gradient.indices[:, None], gradient.values, variable.shape)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=optimizer._momentums[index].value.handle,
        v=optimizer._velocities[index].value.handle,
        beta1_power=beta_1**step,
        beta2_power=beta_2**step,
        lr=tf.cast(learning_rate, dtype),
        beta1=beta_1,
        beta2=beta_2,
        epsilon=tf.cast(optimizer.epsilon, dtype),
        grad=tf.cast(gradient, dtype),
    )


def _decay(optimizer: keras.optimizers.Optimizer, variable: Any) -> None:
    rate = keras.ops.cast(optimizer.learning_rate, variable.dtype)
    variable.assign(variable * (1.0 - rate * optimizer.weight_decay))


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
