"""Optimizer state across freezing and unfreezing, against one uninterrupted Keras run."""

import keras
import numpy as np
import pytest

from keras_finetune import FineTuner

from .conftest import compile_keras

# Not Ftrl, which divides by the learning rate and so is NaN at rate 0.
# The state of the others is like Adam's, values of a variable's shape: their steps are not
# compiled, which takes longer than to run them.
COMPILED = {"Adam", "Nadam", "Adafactor", "Muon"}
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
    # By class, so that a gradient is not that of the step before, nor near zero.
    order = np.argsort(data[1], kind="stable")
    x, y = (part[order] for part in data)
    rate = 1.0 if name == "Adadelta" else 0.01  # It begins with steps of a thousandth of that.
    fit = {"batch_size": 24, "shuffle": False, "verbose": 0}
    reference = make_classifier()
    for layer in reference.layers:
        layer.trainable = layer.name == "head_logits"
    compile_keras(reference, getattr(keras.optimizers, name)(rate), loss)
    reference.run_eagerly = name not in COMPILED
    reference.fit(x, y, epochs=5, **fit)

    tuner = FineTuner(make_classifier())
    tuner.compile(
        getattr(keras.optimizers, name)(rate),
        loss,
        learning_rate={"backbone": 0.0, "head": rate},
        run_eagerly=reference.run_eagerly,
    )
    tuner.freeze("backbone")
    tuner.fit(x, y, epochs=2, **fit)
    tuner.unfreeze("backbone", top=1)
    tuner.fit(x, y, **fit)
    tuner.unfreeze("backbone")
    tuner.fit(x, y, **fit)
    tuner.freeze("backbone")
    tuner.fit(x, y, **fit)
    for expected, received in zip(values(reference), values(tuner.model), strict=True):
        np.testing.assert_allclose(received, expected, rtol=2e-5, atol=1e-6)
