import keras
import numpy as np
import pytest

from keras_finetune import FineTuner

pytestmark = pytest.mark.backends


def test_says_step_and_cause(model, data, loss):
    tuner = FineTuner(model)
    tuner.compile("sgd", loss, learning_rate=1e20)
    with pytest.raises(FloatingPointError, match=r"epoch 1, step [234]") as error:
        tuner.fit(*data, batch_size=12, epochs=2, verbose=0)
    assert "no longer finite" in str(error.value)
    assert "learning rate is 1e+20" in str(error.value)


def test_names_the_rows_if_the_data_knows_them(data):
    from keras_finetune.tuning import NaNLossGuard

    class Batch:
        rows = np.array([7, 3, 5])

    class Planned:
        epochs = type("Counter", (), {"next": 3})()

        @staticmethod
        def plan(epoch):
            assert epoch == 2
            return [None, Batch()]

    guard = NaNLossGuard(Planned())
    guard.set_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
    guard.model.compile("sgd", "mse")
    guard.on_epoch_begin(0)
    guard.on_train_batch_end(0, {"loss": 0.5})
    guard.on_train_batch_begin(1)
    message = r"step 2 \(rows 7, 3, 5\).*weights are finite"
    if keras.backend.backend() == "jax":
        guard.on_train_batch_end(1, {"loss": float("nan")})
        with pytest.raises(FloatingPointError, match=message):
            guard.on_train_batch_begin(2)
    else:
        with pytest.raises(FloatingPointError, match=message):
            guard.on_train_batch_end(1, {"loss": float("nan")})


@pytest.mark.parametrize("bad", [0, 9])
def test_no_batch_is_too_early_or_too_late(loss, bad):
    x, y = np.ones((40, 8), "float32"), np.arange(40) % 3
    x[4 * bad] = 3e38
    dense = keras.layers.Dense(3, kernel_initializer="ones")
    tuner = FineTuner(keras.Sequential([keras.Input((8,)), dense]))
    tuner.compile("sgd", loss)
    with pytest.raises(FloatingPointError, match=rf"epoch 1, steps? .*\b{bad + 1}\."):
        tuner.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
