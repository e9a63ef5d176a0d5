"""Optimizer state across freezing and unfreezing, against one uninterrupted Keras run."""

import keras
import numpy as np
import pytest

from keras_finetune import FineTuner

# Not Ftrl, which divides by the learning rate and so is NaN at rate 0.
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
    reference.compile(getattr(keras.optimizers, name)(0.01), loss)
    reference.fit(*data, epochs=6, shuffle=False, verbose=0)

    tuner = FineTuner(make_classifier())
    tuner.compile(
        getattr(keras.optimizers, name)(0.01), loss, learning_rate={"backbone": 0.0, "head": 0.01}
    )
    tuner.freeze("backbone")
    tuner.fit(*data, epochs=2, shuffle=False, verbose=0)
    tuner.unfreeze("backbone", top=1)
    tuner.fit(*data, epochs=1, shuffle=False, verbose=0)
    tuner.unfreeze("backbone")
    tuner.fit(*data, epochs=1, shuffle=False, verbose=0)
    tuner.freeze("backbone")
    tuner.fit(*data, epochs=2, shuffle=False, verbose=0)
    for expected, received in zip(values(reference), values(tuner.model), strict=True):
        np.testing.assert_allclose(received, expected, rtol=2e-5, atol=1e-6)
