"""An LSTM on a CPU: PyTorch's own, or on TensorFlow four large matrix products and two loops.

Keras runs an LSTM on PyTorch and a CPU as a loop in Python. PyTorch has a layer of oneDNN's, with
its gradient, which takes Keras's weights as they are, transposed.

On TensorFlow, Keras runs a loop of some ten operations a step, with two matrix products each way
and six back. Here the inputs' product is done for all steps at once, as are those of the gradients;
what remains of a step, one product and the gates, is a loop that XLA compiles, and its gradient
another. Rows are independent of each other, so that parts of a batch run beside each other.

XLA turns an expression into vector instructions only if it reads each slice of a step once. So the
first loop keeps the derivatives of the gates, and the second only multiplies by them. Neither says
`maximum_iterations`, with which XLA does not see how often a loop runs.
"""

import functools
import os
from typing import Any

import keras
from keras import ops

from keras_finetune.device import on_gpu
from keras_finetune.models.fused import is_fusing
from keras_finetune.models.torch_kernels import is_torch
from keras_finetune.models.traced_once import traced_once

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
    if is_torch() and _has_torch_lstm(inputs):
        return _torch_lstm(layer.cell, ops.cast(inputs, layer.compute_dtype))
    if not _is_worth_compiling(layer, training):
        return layer(inputs, training=training)
    import tensorflow as tf

    cell = layer.cell
    kernel = tf.cast(cell.kernel, inputs.dtype)
    recurrent, bias = (tf.cast(x, "float32") for x in (cell.recurrent_kernel, cell.bias))
    lstm = _lstm(recurrent.shape[0])
    return tf.cast(lstm(inputs, kernel, recurrent, bias), layer.compute_dtype)


def _is_worth_compiling(layer: keras.layers.LSTM, training: bool | None) -> bool:
    if not is_fusing() or on_gpu():  # On a GPU, Keras calls cuDNN.
        return False
    # Forwards only, Keras's loop takes a quarter longer at most in float32: compiling would pay
    # after a hundred batches of a shape. In 16 bits it takes twice as long.
    return layer.compute_dtype != "float64" and bool(training or layer.compute_dtype != "float32")


def _has_torch_lstm(inputs: Any) -> bool:
    import torch

    # On a GPU Keras calls cuDNN; what is exported or compiled is the plain loop.
    return bool(inputs.device.type == "cpu") and not torch.compiler.is_compiling()


def _torch_lstm(cell: Any, inputs: Any) -> Any:
    import torch

    # Both order the gates alike; PyTorch has a second bias.
    kernel, recurrent, bias = (
        x.value.to(inputs.dtype) for x in (cell.kernel, cell.recurrent_kernel, cell.bias)
    )
    start = inputs.new_zeros((1, inputs.shape[0], recurrent.shape[0]))
    weights = [kernel.t(), recurrent.t(), bias, torch.zeros_like(bias)]
    outputs, _, _ = torch.lstm(
        inputs,
        (start, start),
        weights,
        has_biases=True,
        num_layers=1,
        dropout=0.0,
        train=torch.is_grad_enabled(),
        bidirectional=False,
        batch_first=True,
    )
    return outputs


def _num_parts(inputs: Any) -> int:
    most = min(os.cpu_count() or 1, MOST_PARTS)
    batch = inputs.shape[0]
    return most if batch is None else max(1, min(most, batch // ROWS_OF_A_PART))


def _split(x: Any, count: int) -> list[Any]:
    import tensorflow as tf

    size = tf.shape(x)[0]
    return tf.split(x, [(size + i) // count for i in range(count)]) if count > 1 else [x]


@functools.cache
def _lstm(units: int) -> Any:
    """A function of inputs, kernel, recurrent kernel and bias, and its gradient."""
    import tensorflow as tf

    forward, backward = _loops(units)

    @traced_once
    @tf.custom_gradient
    def call(*arguments: Any) -> Any:
        # Otherwise a tape that is run eagerly asks the compiled loop for its gradient, too.
        inputs, kernel, recurrent, bias = map(tf.stop_gradient, arguments)
        parts = _split(inputs, _num_parts(inputs))
        # Flat: TensorFlow would multiply row by row, and sum the gradients of the rows.
        flat = [_flat(x) for x in parts]
        projected = [tf.cast(tf.matmul(x, kernel), "float32") for x in flat]
        found = [
            [tf.stop_gradient(y) for y in forward(_like(x, of), recurrent, bias)]
            for x, of in zip(projected, parts, strict=True)
        ]
        outputs = tf.concat([x[0] for x in found], axis=0)

        def gradient(upstream: Any) -> tuple[Any, Any, Any, Any]:
            upstreams = _split(tf.stop_gradient(upstream), len(parts))
            slopes = [
                _flat(backward(rows, recurrent, *kept))
                for rows, (_, *kept) in zip(upstreams, found, strict=True)
            ]
            narrow = [tf.cast(x, kernel.dtype) for x in slopes]
            to_inputs = tf.concat([tf.matmul(x, kernel, transpose_b=True) for x in narrow], axis=0)
            before = [_flat(tf.pad(x[:, :-1], [(0, 0), (1, 0), (0, 0)])) for x, *_ in found]
            gradients = (
                _like(to_inputs, inputs),
                _sum_of_products(flat, narrow),
                _sum_of_products(before, slopes),
                _sum_of_products([tf.ones_like(x[:, :1]) for x in slopes], slopes)[0],
            )
            return tuple(_only_once(tf.stop_gradient(x), upstream, *arguments) for x in gradients)

        return outputs, gradient

    return call


def _only_once(gradient: Any, *arguments: Any) -> Any:
    """Refuse the gradient of a gradient, which would be wrong."""
    import tensorflow as tf

    @tf.custom_gradient
    def call(gradient: Any, *rest: Any) -> Any:
        def refuse(_: Any) -> Any:
            message = (
                "An LSTM of this library has no second derivatives on TensorFlow and a CPU. Use "
                "keras.layers.LSTM, or the PyTorch or JAX backend."
            )
            if tf.executing_eagerly():
                raise NotImplementedError(message)
            # A persistent tape has TensorFlow trace them, whether they are asked for or not.
            with tf.control_dependencies([tf.debugging.Assert(False, [message])]):
                return [tf.zeros_like(x) for x in (gradient, *rest)]

        return tf.identity(gradient), refuse

    return call(gradient, *arguments)


def _flat(x: Any) -> Any:
    import tensorflow as tf

    return tf.reshape(x, (-1, x.shape[-1]))


def _like(x: Any, steps: Any) -> Any:
    """Undo `_flat`: the rows of x are those of steps."""
    import tensorflow as tf

    return tf.reshape(x, (*tf.unstack(tf.shape(steps)[:2]), x.shape[-1]))


def _sum_of_products(one: list[Any], other: list[Any]) -> Any:
    import tensorflow as tf

    pairs = zip(one, other, strict=True)
    return tf.add_n([tf.matmul(x, y, transpose_a=True) for x, y in pairs])


@functools.cache
def _loops(units: int) -> tuple[Any, Any]:
    """The loop over steps and that of its gradient, compiled for each shape."""
    import tensorflow as tf

    def arrays(size: Any, *widths: int) -> list[tf.TensorArray]:
        return [tf.TensorArray("float32", size, element_shape=(None, width)) for width in widths]

    @tf.function(jit_compile=True, reduce_retracing=True, autograph=False)
    def forward(projected: Any, recurrent: Any, bias: Any) -> Any:
        rows, length = tf.unstack(tf.shape(projected)[:2])
        zeros = tf.zeros((rows, units))
        # tanh(x) is 2 sigmoid(2x) - 1: all four gates are one expression.
        scale = tf.repeat(tf.constant([1.0, 1.0, 2.0, 1.0]), units)

        def step(t: Any, output: Any, cell: Any, outputs: Any, *kept: Any) -> Any:
            x = projected[:, t] + bias + tf.matmul(output, recurrent)
            gates = scale / (1.0 + tf.exp(-x * scale)) - (scale - 1.0)
            enter, keep, new, leave = tf.split(gates, 4, axis=-1)
            before, cell = cell, keep * cell + enter * new
            active = tf.tanh(cell)
            output = leave * active
            derivatives = (
                new * enter * (1.0 - enter),
                before * keep * (1.0 - keep),
                enter * (1.0 - new * new),
                active * leave * (1.0 - leave),
                leave * (1.0 - active * active),
                keep,
            )
            written = [a.write(t, x) for a, x in zip(kept, derivatives, strict=True)]
            return t + 1, output, cell, _with_step(outputs, t, output), *written

        start = (0, zeros, zeros, tf.zeros((rows, length, units)), *arrays(length, *[units] * 6))
        _, _, _, outputs, *kept = tf.while_loop(lambda t, *_: t < length, step, start)
        return [outputs, *(x.stack() for x in kept)]

    @tf.function(jit_compile=True, reduce_retracing=True, autograph=False)
    def backward(upstream: Any, recurrent: Any, *kept: Any) -> Any:
        rows, length = tf.unstack(tf.shape(upstream)[:2])
        # Of the arguments some may say a batch of one, and others none.
        zeros = tf.zeros((rows, units))
        zeros = tf.raw_ops.PlaceholderWithDefault(input=zeros, shape=(None, units))
        back = tf.transpose(recurrent)

        def step(t: Any, to_output: Any, to_cell: Any, found: Any) -> Any:
            enter, keep, new, leave, active, carry = (x[t] for x in kept)
            to_output += upstream[:, t]
            to_cell += to_output * active
            slopes = tf.concat(
                [to_cell * enter, to_cell * keep, to_cell * new, to_output * leave], axis=-1
            )
            found = _with_step(found, t, slopes)
            return t - 1, tf.matmul(slopes, back), to_cell * carry, found

        start = (length - 1, zeros, zeros, tf.zeros((rows, length, 4 * units)))
        return tf.while_loop(lambda t, *_: t >= 0, step, start)[-1]

    return forward, backward


def _with_step(x: Any, t: Any, values: Any) -> Any:
    """Replace the values of step t, in place."""
    from tensorflow.compiler.tf2xla.python import xla

    return xla.dynamic_update_slice(x, values[:, None], (0, t, 0))
