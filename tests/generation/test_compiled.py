"""Functions of a model's layers, compiled."""

import logging

import keras
import numpy as np
import pytest

from keras_finetune.generation.compiled import compiled
from keras_finetune.generation.one_row import TransposedStep


@pytest.fixture
def warnings_of_tensorflow(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("tensorflow"), "propagate", True)
    return lambda: caplog.text


@pytest.mark.parametrize("few_shapes", [True, False])
def test_many_models_are_compiled_without_a_warning(few_shapes, warnings_of_tensorflow):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    ones = {"x": np.ones((2, 3), "float32")}
    for _ in range(7):

        def run(inputs):
            return model(inputs["x"])

        found = compiled(model, run, few_shapes=few_shapes)(ones)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(found), model(ones["x"]), rtol=1e-5)
    assert warnings_of_tensorflow() == ""


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Only it has such copies.")
def test_kernels_of_many_models_are_transposed_without_a_warning(warnings_of_tensorflow):
    for _ in range(7):
        kernel = keras.Variable(np.ones((3, 2), "float32"))
        step = TransposedStep(
            [(kernel, "float32")], lambda blocks: (), with_xla=False, rows=range(1)
        )
        (copy,) = step.copies()
        assert copy.shape == (2, 3)
    assert warnings_of_tensorflow() == ""
