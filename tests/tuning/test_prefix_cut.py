"""What lies below a cut, and that a model trains as with Keras where it is easy to get wrong."""

import keras
import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune.tuning.prefix_cut import find_cut

from .conftest import compile_keras

X = 10.0 + 3.0 * np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
Y = (X[:, 0] > 10.0).astype("int32")


class Noise(keras.layers.Layer):
    """An augmentation that takes no random numbers from Keras."""

    def call(self, inputs, training=False):
        return inputs * 0.5 if training else inputs


def classifier(*layers):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(2, name="head")])


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def assert_trains_as_with_keras(make, *caches):
    settings = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
    model = make()
    compile_keras(model, keras.optimizers.SGD(0.05), loss())
    expected = model.fit(X, Y, **settings).history["loss"]
    for cache_frozen in caches:
        tuner = kft.FineTuner(make())
        tuner.compile(keras.optimizers.SGD(0.05), loss())
        received = tuner.fit(X, Y, cache_frozen=cache_frozen, **settings).history["loss"]
        np.testing.assert_allclose(received, expected, rtol=1e-5)


@pytest.mark.backends
def test_a_batch_normalization_without_weights_that_train():
    def make():
        layers = keras.layers
        norm = layers.BatchNormalization(center=False, scale=False, name="norm")
        model = classifier(layers.Dense(3, name="low"), norm)
        model.get_layer("low").trainable = False
        return model

    assert [step.operation.name for step in find_cut(make()).prefix] == ["low"]
    assert_trains_as_with_keras(make, True, False)


@pytest.mark.parametrize("lowest", [True, False])
def test_an_augmentation_of_the_users_own_stays_on(lowest):
    def make():
        low = [keras.layers.Dense(3, name="low", trainable=False), Noise(name="noise")]
        return classifier(*(low[::-1] if lowest else low), keras.layers.Dense(3, name="middle"))

    cut = find_cut(make())
    assert cut is None if lowest else [step.operation.name for step in cut.prefix] == ["low"]
    assert_trains_as_with_keras(make, "auto", False)


@pytest.mark.backends
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_function_that_takes_training_stays_on(wrapped):
    def make():
        layers = keras.layers
        noise = layers.Lambda(lambda x, training=False: x * 0.5 if training else x, name="noise")
        parts = [noise]
        if wrapped:
            wrapper = layers.TimeDistributed(noise, name="noise_wrapper")
            parts = [layers.Reshape((1, 3)), wrapper, layers.Flatten()]
        low = layers.Dense(3, name="low", trainable=False)
        return classifier(low, *parts, layers.Dense(3, trainable=False, name="middle"))

    below = {step.operation.name for step in find_cut(make()).prefix}
    assert "low" in below
    assert not below & {"noise", "noise_wrapper", "middle"}
    assert_trains_as_with_keras(make, True, False)


def test_it_is_below_when_it_is_frozen_itself():
    norm = keras.layers.BatchNormalization(center=False, scale=False, name="norm")
    model = classifier(keras.layers.Dense(3, name="low"), norm)
    model.get_layer("low").trainable = norm.trainable = False
    assert [step.operation.name for step in find_cut(model).prefix] == ["low", "norm"]


def test_what_adapt_sets_is_below():
    norm = keras.layers.Normalization(name="adapted")
    norm.adapt(X)
    model = classifier(norm, keras.layers.Dense(3, name="low"))
    model.get_layer("low").trainable = False
    assert [step.operation.name for step in find_cut(model).prefix] == ["adapted", "low"]


def test_what_an_activity_regularizer_adds_counts():
    def make():
        low = keras.layers.Dense(3, name="low", activity_regularizer="l2")
        model = classifier(low)
        low.trainable = False
        return model

    assert find_cut(make()) is None
    assert_trains_as_with_keras(make, "auto", False)


@pytest.mark.backends
def test_weights_that_train_inside_a_layer_that_says_it_is_frozen():
    """Keras hands the flag of a constructor on to no layer inside `Bidirectional`."""

    def make():
        layers = keras.layers
        lstm = layers.Bidirectional(layers.LSTM(3), trainable=False, name="lstm")
        low = layers.Dense(4, trainable=False, name="low")
        return classifier(low, layers.Reshape((2, 2), name="pairs"), lstm)

    cut = find_cut(make())
    assert [step.operation.name for step in cut.prefix] == ["low", "pairs"]
    assert_trains_as_with_keras(make, True)


def test_a_stateful_layer_is_above():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((2, 2), batch_size=8),
            layers.Dense(3, trainable=False, name="low"),
            layers.LSTM(3, stateful=True, trainable=False),
            layers.Dense(2, name="head"),
        ]
    )
    assert [step.operation.name for step in find_cut(model).prefix] == ["low"]
