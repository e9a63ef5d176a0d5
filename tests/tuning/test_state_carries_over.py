"""Optimizer state across freezing and unfreezing, against one uninterrupted Keras run."""

import keras
import numpy as np
import pytest

from keras_finetune import FineTuner

from .conftest import compile_keras

# Not Ftrl, which divides by the learning rate and so is NaN at rate 0.
# Others than Adam and Muon are not compiled, which takes longer than their steps.
OPTIMIZERS = [
    pytest.param("Adam", marks=pytest.mark.backends),
    "AdamW",
    "Adamax",
    "Nadam",
    "RMSprop",
    "Adagrad",
    "Adadelta",
    "Adafactor",
    "Lion",
    "SGD",
    "Lamb",
    pytest.param("Muon", marks=pytest.mark.backends),
]


def values(model):
    return [np.array(value) for value in model.get_weights()]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_carries_over_as_in_one_uninterrupted_keras_run(name, make_classifier, data, loss):
    """Freeze, unfreeze and change rates in between: the head must not notice.

    The backbone learns at rate 0, so that only the head moves, in both runs.
    """
    reference = make_classifier()
    for layer in reference.layers:
        layer.trainable = layer.name == "head_logits"
    compile_keras(reference, getattr(keras.optimizers, name)(0.01), loss)
    reference.run_eagerly = name not in ("Adam", "Muon")
    reference.fit(*data, epochs=5, batch_size=48, shuffle=False, verbose=0)

    tuner = FineTuner(make_classifier())
    tuner.compile(
        getattr(keras.optimizers, name)(0.01),
        loss,
        learning_rate={"backbone": 0.0, "head": 0.01},
        run_eagerly=reference.run_eagerly,
    )
    fit = {"batch_size": 48, "shuffle": False, "verbose": 0}
    tuner.freeze("backbone")
    tuner.fit(*data, epochs=2, **fit)
    tuner.unfreeze("backbone", top=1)
    tuner.fit(*data, **fit)
    tuner.unfreeze("backbone")
    tuner.fit(*data, **fit)
    tuner.freeze("backbone")
    tuner.fit(*data, **fit)
    for expected, received in zip(values(reference), values(tuner.model), strict=True):
        np.testing.assert_allclose(received, expected, rtol=2e-5, atol=1e-6)
