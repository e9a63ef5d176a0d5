from contextlib import nullcontext

import keras
import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune.models import (
    cnn_encoder,
    encoder_decoder,
    text_classifier,
    transformer_encoder,
)
from keras_finetune.tuning.gradient_checkpointing import checkpoint_blocks

X = {
    "token_ids": np.random.default_rng(0).integers(0, 50, (64, 12)),
    "padding_mask": np.arange(12) < np.arange(1, 65)[:, None] % 12 + 1,
}
Y = np.arange(64) % 3


def tuned(gradient_checkpointing, num_layers=2, dropout=0.0, epochs=2):
    keras.utils.set_random_seed(0)
    backbone = transformer_encoder(50, num_layers, 2, 16, dropout=dropout)
    tuner = kft.FineTuner(text_classifier(backbone, 3, dropout=0.0))
    tuner.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        gradient_checkpointing=gradient_checkpointing,
    )
    tuner.fit(X, Y, batch_size=16, epochs=epochs, shuffle=False, verbose=0)
    return tuner


@pytest.mark.backends
def test_training_is_the_same():
    plain, checkpointed = tuned(False), tuned(True)
    assert checkpointed.history["loss"] == pytest.approx(plain.history["loss"], rel=1e-5)
    for one, other in zip(plain.model.weights, checkpointed.model.weights, strict=True):
        np.testing.assert_allclose(
            *(keras.ops.convert_to_numpy(x) for x in (one, other)), rtol=1e-4, atol=1e-5
        )


@pytest.mark.backends
def test_relative_positions_learn_the_same():
    found = []
    for checkpointing in (False, True):
        keras.utils.set_random_seed(0)
        backbone = encoder_decoder(50, 1, 2, 16, positions="relative", dropout=0.0)
        model = text_classifier(backbone, 3, dropout=0.0)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(1.0), loss)
        x = {prefix + name: value[:8] for name, value in X.items() for prefix in ("", "decoder_")}
        before = model.get_layer("encoder_position_bias").get_weights()[0]
        with checkpoint_blocks(model) if checkpointing else nullcontext():
            model.train_on_batch(x, Y[:8])
        found.append(before - model.get_layer("encoder_position_bias").get_weights()[0])
    assert np.abs(found[0]).max() > 1e-5
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-7)


@pytest.mark.backends
def test_both_passes_drop_the_same():
    """Where they did not, the gradient would be that of another function than the loss."""
    keras.utils.set_random_seed(0)
    model = transformer_encoder(50, 1, 2, 16, dropout=0.4)
    block = model.get_layer("block_0")
    x = keras.ops.convert_to_tensor(np.random.default_rng(0).normal(size=(2, 5, 16)), "float32")
    states = [
        keras.ops.convert_to_numpy(g.state)
        for layer in block._flatten_layers()
        for g in layer._seed_generators
    ]

    def loss(x):
        if keras.backend.backend() == "torch":
            keras.utils.set_random_seed(0)  # There dropout draws from the one global generator.
        for layer in block._flatten_layers():
            for generator, state in zip(layer._seed_generators, states, strict=False):
                generator.state.assign(state)
        return keras.ops.sum(keras.ops.square(block(x, training=True)))

    direction = np.random.default_rng(1).normal(size=(2, 5, 16)).astype("float32")
    with checkpoint_blocks(model):
        slope = float((keras.ops.convert_to_numpy(gradient(loss, x)) * direction).sum())
        step = 1e-2
        along = keras.ops.convert_to_tensor(step * direction)
        there, back = (keras.ops.convert_to_numpy(loss(y)) for y in (x + along, x - along))
    assert slope == pytest.approx((there - back) / (2 * step), rel=0.02, abs=0.02)


def gradient(loss, x):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(x)
        return tape.gradient(value, x)
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(loss)(x)
    x = x.detach().requires_grad_()
    loss(x).backward()
    return x.grad


def test_the_model_is_an_ordinary_one_afterwards():
    tuner = tuned(True, num_layers=1, dropout=0.1, epochs=1)
    assert not any("call" in vars(layer) for layer in tuner.model._flatten_layers())
    assert np.isfinite(tuner.predict(X, verbose=0)).all()


def test_a_quantized_model_is_refused():
    model = text_classifier(transformer_encoder(50, 1, 2, 16), 3)
    model.quantize("int8", filters=lambda layer: isinstance(layer, keras.layers.Dense))
    with pytest.raises(ValueError, match="are quantized"), checkpoint_blocks(model):
        pass


def test_only_a_bool_is_taken():
    tuner = kft.FineTuner(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    with pytest.raises(ValueError, match=r"must be True or False\. Received: 'yes'"):
        tuner.compile("sgd", "mse", gradient_checkpointing="yes")


def test_a_model_without_blocks_is_refused():
    model = text_classifier(cnn_encoder(50, hidden_dim=8, num_layers=1), 3)
    blocks = [x for x in model._flatten_layers() if type(x).__name__ == "ConvolutionBlock"]
    assert blocks  # It keeps no running statistics, so that it is a block too.
    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with (
        pytest.raises(ValueError, match="gradient_checkpointing=True needs layers made of layers"),
        checkpoint_blocks(flat),
    ):
        pass
