import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_finetune as kft
from keras_finetune.tuning.execution import choose_steps_per_execution

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow runs several steps at once"
)


def small_model(width=4):
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(width, name="low"), keras.layers.Dense(2)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def rows(count):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 8)).astype("float32"), np.arange(count) % 2


class Batches(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        pass


class ValidationBatches(keras.callbacks.Callback):
    def on_test_batch_end(self, batch, logs=None):
        pass


class Epochs(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        pass


def test_short_steps_run_several_at_a_time_and_long_ones_one():
    x, _ = rows(1_000)
    assert choose_steps_per_execution(small_model(), x, {"batch_size": 4}) == 16
    assert choose_steps_per_execution(small_model(4_000_000), x, {"batch_size": 128}) == 1


def test_few_steps_run_one_at_a_time():
    x, _ = rows(28)
    assert choose_steps_per_execution(small_model(), x, {"batch_size": 4}) == 1


def test_callbacks_between_batches_are_called_between_batches():
    x, _ = rows(1_000)
    arguments = (small_model(), x, {"batch_size": 4})
    assert choose_steps_per_execution(*arguments, [Epochs()]) == 16
    assert choose_steps_per_execution(*arguments, [Batches()]) == 1
    assert choose_steps_per_execution(*arguments, [ValidationBatches()]) == 1
    act = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    assert choose_steps_per_execution(*arguments, [act]) == 1


def test_what_the_user_chose_stays():
    model = small_model()
    model.compile("sgd", "mse", steps_per_execution=3)
    assert choose_steps_per_execution(model, rows(1_000)[0], {}) == 3


def test_fit_gives_the_same_weights_and_only_fit_runs_several_at_a_time():
    x, y = rows(130)  # 33 steps: the last execution is not full.
    found = []
    for callbacks in ([], [Batches()]):
        keras.utils.set_random_seed(0)
        model = small_model()
        tuner = kft.FineTuner(model)
        history = tuner.fit(
            x, y, batch_size=4, epochs=2, shuffle=False, verbose=0, callbacks=callbacks
        )
        assert model.steps_per_execution == 1
        assert model.optimizer.iterations == 66
        found.append((history.history["loss"], *model.get_weights()))
        assert np.isfinite(model.evaluate(x, y, verbose=0))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_an_epoch_of_so_many_steps_ends_after_them():
    x, y = rows(256)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4).repeat()
    model = small_model()
    assert choose_steps_per_execution(model, data, {"steps_per_epoch": 100}) == 10
    tuner = kft.FineTuner(model)
    for epochs in (1, 2):
        history = tuner.fit(data, steps_per_epoch=100, epochs=epochs, verbose=0)
        assert len(history.history["loss"]) == epochs
    assert model.optimizer.iterations == 300
    generator = ((x[:4], y[:4]) for _ in range(100))
    assert choose_steps_per_execution(model, generator, {"steps_per_epoch": 100}) == 1


def test_a_validation_of_so_many_steps_ends_after_them():
    x, y = rows(1_000)
    arguments = (small_model(), x)
    assert choose_steps_per_execution(*arguments, {"batch_size": 4, "validation_steps": 10}) == 10
    assert choose_steps_per_execution(*arguments, {"batch_size": 4, "validation_steps": 17}) == 1
    given = {"steps_per_epoch": 100, "validation_steps": 8}
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(2)
    assert choose_steps_per_execution(small_model(), data, given) == 4
    tuner = kft.FineTuner(small_model())
    tuner.compile("sgd", learning_rate=0.0)
    history = tuner.fit(
        data, validation_data=data, validation_steps=5, early_stopping=False, verbose=0
    ).history
    expected = tuner.evaluate(data, steps=5, verbose=0)["loss"]
    assert history["val_loss"] == [pytest.approx(expected, rel=1e-5)]


def test_a_later_fit_with_other_steps_traces_anew():
    x, y = rows(200)
    model = small_model()
    tuner = kft.FineTuner(model)
    tuner.fit(x, y, batch_size=4, verbose=0)
    first = model.train_function
    tuner.fit(x, y, batch_size=4, verbose=0)
    assert model.train_function is first
    seen = []
    act = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    tuner.fit(x, y, batch_size=4, verbose=0, callbacks=[act])
    assert seen == list(range(50))


def test_a_later_fit_with_labels_of_another_rank():
    x, y = rows(40)
    tuner = kft.FineTuner(small_model())
    tuner.compile(metrics=["accuracy"])
    for labels in (y[:, None], y, y[:, None]):
        for validation in (None, (x, labels)):
            tuner.fit(x, labels, batch_size=4, validation_data=validation, verbose=0)
    assert len(tuner.history["loss"]) == 6


def test_a_loss_that_is_not_a_number_names_the_steps():
    x, y = rows(400)
    x[50] = 3e38
    tuner = kft.FineTuner(small_model())
    with pytest.raises(FloatingPointError, match="steps 13 to 24"):
        tuner.fit(x, y, batch_size=4, shuffle=False, verbose=0, validation_split=0.0)
