import keras
import numpy as np
import pytest

from keras_finetune import FineTuner
from keras_finetune.tuning.kept_values import values_kept

pytestmark = pytest.mark.backends


def values(model):
    return [np.array(keras.ops.convert_to_numpy(value)) for value in model.variables]


@pytest.mark.parametrize("call", ["evaluate", "predict"])
def test_a_call_that_fails_leaves_the_weights(model, data, loss, call):
    tuner = FineTuner(model)
    tuner.compile("adam", loss)
    tuner.fit(*data, verbose=0)
    before = [np.array(value) for value in model.get_weights()]
    with pytest.raises(Exception):  # noqa: B017, PT011 - each backend has its own
        getattr(tuner, call)(data[0][:, :3, None, None], verbose=0)
    for received, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(received, expected)


def test_a_later_step_that_fails(model, data, loss):
    model.compile("adam", loss)
    before = values(model)
    stop = keras.callbacks.LambdaCallback(on_predict_batch_end=lambda batch, logs: 1 / 0)
    with pytest.raises(ZeroDivisionError), values_kept(model):
        model.predict(data[0], callbacks=[stop], verbose=0)
    for received, expected in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(received, expected)
