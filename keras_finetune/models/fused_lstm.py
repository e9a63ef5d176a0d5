"""An LSTM in three large matrix products and two compiled loops, on TensorFlow and a CPU.

Keras runs an LSTM there as a loop of some ten operations a step, with two matrix products each way
and six back. Here the inputs' product is done for all steps at once, as are those of the gradients;
what remains of a step, one product and the gates, is a loop that XLA compiles, and its gradient
another. Rows are independent of each other, so that parts of a batch run beside each other.
"""

import functools
import os
from typing import Any

import keras

from keras_finetune.models.fused import is_fusing

# Fewer rows make a product too small to be worth a processor.
ROWS_OF_A_PART = 8
MOST_PARTS = 4


def run_lstm(layer: keras.layers.LSTM, inputs: Any, training: bool | None = None) -> Any:
    """Compute what a plain LSTM layer computes, without a mask.

    Args:
        layer: A built `keras.layers.LSTM` with Keras's own activations, a bias, no dropout, and
            `return_sequences=True`.
        inputs: (batch, length, width).
        training: As for the layer.

    Returns:
        (batch, length, units) in the layer's compute dtype.

    Example:
        >>> layer = keras.layers.LSTM(4, return_sequences=True)
        >>> layer.build((None, None, 3))
        >>> tuple(run_lstm(layer, keras.ops.ones((2, 5, 3))).shape)
        (2, 5, 4)
    """
    if not _is_fusing_lstm():
        return layer(inputs, training=training)
    import tensorflow as tf

    cell = layer.cell
    kernel = tf.cast(cell.kernel, inputs.dtype)
    recurrent, bias = (tf.cast(x, "float32") for x in (cell.recurrent_kernel, cell.bias))
    outputs = []
    for rows in _parts(inputs):
        batch, length = tf.shape(rows)[0], tf.shape(rows)[1]
        steps = tf.transpose(rows, (1, 0, 2))
        # Flat: TensorFlow would multiply step by step, and sum the gradients of the steps.
        projected = tf.matmul(tf.reshape(steps, (-1, rows.shape[-1])), kernel)
        projected = tf.reshape(projected, (length, batch, 4 * layer.units))
        projected = tf.cast(projected, "float32")
        outputs.append(tf.transpose(_lstm(projected, recurrent, bias), (1, 0, 2)))
    return tf.cast(tf.concat(outputs, axis=0), layer.compute_dtype)


@functools.cache
def _is_fusing_lstm() -> bool:
    if not is_fusing():
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")  # There, Keras calls cuDNN.


def _parts(inputs: Any) -> list[Any]:
    import tensorflow as tf

    most = min(os.cpu_count() or 1, MOST_PARTS)
    batch = inputs.shape[0]
    count = most if batch is None else max(1, min(most, batch // ROWS_OF_A_PART))
    if count == 1:
        return [inputs]
    size = tf.shape(inputs)[0]
    return tf.split(inputs, [(size + i) // count for i in range(count)])


def _lstm(projected: Any, recurrent: Any, bias: Any) -> Any:
    import tensorflow as tf

    units = recurrent.shape[0]
    forward, backward = _loops(units)

    @tf.custom_gradient
    def call(projected: Any, recurrent: Any, bias: Any) -> Any:
        outputs, cells, gates = forward(projected, recurrent, bias)

        def gradient(upstream: Any) -> tuple[Any, Any, Any]:
            slopes = backward(upstream, recurrent, cells, gates)
            flat = tf.reshape(slopes, (-1, 4 * units))
            before = tf.pad(outputs[:-1], [(1, 0), (0, 0), (0, 0)])
            before = tf.reshape(before, (-1, units))
            to_recurrent = tf.matmul(before, flat, transpose_a=True)
            return slopes, to_recurrent, tf.linalg.matvec(flat, tf.ones_like(flat[:, 0]), True)

        return outputs, gradient

    return call(projected, recurrent, bias)


@functools.cache
def _loops(units: int) -> tuple[Any, Any]:
    """The loop over steps and that of its gradient, compiled for each shape."""
    import tensorflow as tf

    def arrays(size: Any, *widths: int) -> list[tf.TensorArray]:
        return [tf.TensorArray("float32", size, element_shape=(None, width)) for width in widths]

    @tf.function(jit_compile=True, reduce_retracing=True)
    def forward(projected: Any, recurrent: Any, bias: Any) -> Any:
        length = tf.shape(projected)[0]
        zeros = tf.zeros((tf.shape(projected)[1], units))
        # tanh(x) is 2 sigmoid(2x) - 1: all four gates are one expression.
        scale = tf.repeat(tf.constant([1.0, 1.0, 2.0, 1.0]), units)

        def step(t: Any, output: Any, cell: Any, *kept: Any) -> Any:
            x = projected[t] + bias + tf.matmul(output, recurrent)
            gates = scale / (1.0 + tf.exp(-x * scale)) - (scale - 1.0)
            enter, keep, new, leave = tf.split(gates, 4, axis=-1)
            cell = keep * cell + enter * new
            output = leave * tf.tanh(cell)
            written = [a.write(t, x) for a, x in zip(kept, (output, cell, gates), strict=True)]
            return t + 1, output, cell, *written

        start = (0, zeros, zeros, *arrays(length, units, units, 4 * units))
        end = tf.while_loop(lambda t, *_: t < length, step, start, maximum_iterations=length)
        return end[3].stack(), end[4].stack(), end[5].stack()

    @tf.function(jit_compile=True, reduce_retracing=True)
    def backward(upstream: Any, recurrent: Any, cells: Any, gates: Any) -> Any:
        length = tf.shape(upstream)[0]
        zeros = tf.zeros((tf.shape(upstream)[1], units))
        back = tf.transpose(recurrent)

        def step(t: Any, to_output: Any, to_cell: Any, kept: Any) -> Any:
            enter, keep, new, leave = tf.split(gates[t], 4, axis=-1)
            before = tf.where(t > 0, cells[tf.maximum(t - 1, 0)], zeros)
            active = tf.tanh(cells[t])
            to_output += upstream[t]
            to_cell += to_output * leave * (1.0 - active * active)
            slopes = tf.concat(
                [
                    to_cell * new * enter * (1.0 - enter),
                    to_cell * before * keep * (1.0 - keep),
                    to_cell * enter * (1.0 - new * new),
                    to_output * active * leave * (1.0 - leave),
                ],
                axis=-1,
            )
            return t - 1, tf.matmul(slopes, back), to_cell * keep, kept.write(t, slopes)

        start = (length - 1, zeros, zeros, *arrays(length, 4 * units))
        end = tf.while_loop(lambda t, *_: t >= 0, step, start, maximum_iterations=length)
        return end[3].stack()

    return forward, backward
