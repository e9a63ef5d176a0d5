import keras
import numpy as np
import pytest

from keras_finetune.models import lstm_encoder, text_classifier
from keras_finetune.models.fused_lstm import run_lstm

pytestmark = [
    pytest.mark.backends,
    pytest.mark.skipif(keras.backend.backend() == "jax", reason="it is Keras's own layer there"),
]
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tapes, graphs and the loops are TensorFlow's"
)

RNG = np.random.default_rng(0)


def values_and_gradients(function, layer, x):
    weights = np.random.default_rng(1).normal(size=(*x.shape[:2], layer.units)).astype("float32")
    if keras.backend.backend() == "torch":
        import torch

        x = torch.tensor(x, requires_grad=True)
        layer.zero_grad()
        y = function(x)
        (y * torch.tensor(weights)).sum().backward()
        gradients = [x.grad, *(w.value.grad for w in layer.trainable_variables)]
        return [a.detach().clone().numpy() for a in (y, *gradients)]
    import tensorflow as tf

    x, weights = tf.constant(x), tf.constant(weights)

    # The number of rows is not known when a step is traced.
    @tf.function(input_signature=[tf.TensorSpec((None, None, x.shape[-1]), x.dtype)])
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
            total = tf.reduce_sum(tf.cast(y, "float32") * weights)
        return y, tape.gradient(total, [x, *layer.trainable_variables])

    y, found = step(x)
    return [np.asarray(a, "float32") for a in (y, *found)]


def layer_for(width, units, dtype=None):
    layer = keras.layers.LSTM(units, return_sequences=True, dtype=dtype)
    layer.build((None, None, width))
    for weight in layer.weights:
        weight.assign(RNG.normal(scale=0.4, size=weight.shape))
    return layer


@pytest.mark.parametrize("rows", [1, 2, 9, 32])
def test_outputs_and_gradients_are_those_of_keras(rows):
    layer = layer_for(5, 8)
    x = RNG.normal(size=(rows, 7, 5)).astype("float32")
    ours = values_and_gradients(lambda x: run_lstm(layer, x, training=True), layer, x)
    theirs = values_and_gradients(layer, layer, x)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@on_tensorflow
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("in_graph", [False, True])
def test_gradients_on_any_tape(persistent, in_graph):
    import tensorflow as tf

    layer = layer_for(5, 8)
    x = tf.constant(RNG.normal(size=(9, 7, 5)).astype("float32"))

    def gradients(function):
        with tf.GradientTape(persistent=persistent) as tape:
            tape.watch(x)
            total = tf.reduce_sum(function(x) ** 2)
        return tape.gradient(total, [x, *layer.trainable_variables])

    run = tf.function(gradients) if in_graph else gradients
    found = run(lambda x: run_lstm(layer, x, training=True))
    for one, other in zip(found, gradients(layer), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@on_tensorflow
def test_an_eager_fit_learns_what_a_compiled_one_does():
    losses = []
    for run_eagerly in (False, True):
        keras.utils.set_random_seed(0)
        model = text_classifier(lstm_encoder(20, 8, dropout=0.0), 2, dropout=0.0)
        model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=run_eagerly)
        ids = np.arange(24).reshape(6, 4) % 20
        x = {"token_ids": ids, "padding_mask": ids > 2}
        history = model.fit(x, np.arange(6) % 2, epochs=3, batch_size=3, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


@on_tensorflow
@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("of", ["inputs", "weights"])
def test_second_derivatives_are_refused(of, in_graph):
    import tensorflow as tf

    layer = layer_for(5, 8)
    x = tf.constant(RNG.normal(size=(2, 3, 5)).astype("float32"))
    by = x if of == "inputs" else layer.trainable_variables

    def twice():
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                total = tf.reduce_sum(run_lstm(layer, x, training=True))
            once = inner.gradient(total, by)
        return outer.gradient(once, x)

    error = tf.errors.InvalidArgumentError if in_graph else NotImplementedError
    with pytest.raises(error, match="has no second derivatives"):
        (tf.function(twice) if in_graph else twice)()


def test_float64_is_computed_in_float64():
    layer = layer_for(5, 8, "float64")
    x = RNG.normal(size=(3, 4, 5))
    found, expected = map(
        keras.ops.convert_to_numpy, (run_lstm(layer, keras.ops.array(x), training=True), layer(x))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_one_step():
    layer = layer_for(5, 8)
    x = RNG.normal(size=(3, 1, 5)).astype("float32")
    found, expected = map(
        keras.ops.convert_to_numpy, (run_lstm(layer, keras.ops.array(x), training=True), layer(x))
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_large_values_saturate_and_stay_finite():
    layer = layer_for(5, 8)
    x = 1e4 * RNG.normal(size=(2, 6, 5)).astype("float32")
    for value in values_and_gradients(lambda x: run_lstm(layer, x, training=True), layer, x):
        assert np.isfinite(value).all()


def test_mixed_precision_is_near_float32():
    layer, exact = layer_for(5, 8, "mixed_bfloat16"), layer_for(5, 8)
    for weight, value in zip(exact.weights, layer.weights, strict=True):
        weight.assign(value)
    x = RNG.normal(size=(4, 30, 5)).astype("float32")
    found = run_lstm(layer, keras.ops.cast(x, "bfloat16"))
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(keras.ops.cast(found, "float32")),
        keras.ops.convert_to_numpy(exact(x)),
        rtol=0,
        atol=0.05,
    )


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="torch.lstm is PyTorch's")
def test_pytorch_runs_its_own(monkeypatch):
    import torch

    calls = []
    monkeypatch.setattr(
        torch, "lstm", lambda *a, run=torch.lstm, **k: calls.append(a) or run(*a, **k)
    )
    model = lstm_encoder(20, 8, dropout=0.0)
    ids = np.arange(6).reshape(2, 3)
    model({"token_ids": ids, "padding_mask": ids > 0})
    assert len(calls) == 1
