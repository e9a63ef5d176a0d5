import math
import time

import keras
import pytest

from keras_finetune import FineTuner
from keras_finetune.tuning.data_kinds import FitData
from keras_finetune.tuning.training import train

from .conftest import compile_keras

pytestmark = pytest.mark.backends


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_it_is_keras_own_fit_recorded_and_measured(
    make_classifier, data, loss, gradient_checkpointing
):
    reference, model = make_classifier(), make_classifier()
    for each in (reference, model):
        compile_keras(each, keras.optimizers.SGD(0.1), loss)
    expected = reference.fit(*data, epochs=2, shuffle=False, verbose=0).history["loss"]
    recorded = {"loss": [2.0]}
    found, report = train(
        model,
        FitData(*data, None, {"shuffle": False, "verbose": 0}),
        epochs=2,
        callbacks=[],
        class_weight=None,
        gradient_checkpointing=gradient_checkpointing,
        history=recorded,
        started=time.perf_counter(),
    )
    assert found.history["loss"] == pytest.approx(expected, rel=1e-4)
    assert recorded["loss"] == [2.0, *found.history["loss"]]
    assert report.epochs == 2
    assert 0 < report.first_step_seconds < report.seconds


def test_ctrl_c_keeps_the_weights_and_the_history(model, data, loss):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations == 3:
                raise KeyboardInterrupt

    tuner = FineTuner(model)
    tuner.compile("sgd", loss, metrics=["accuracy"], learning_rate=0.1)
    before = model.get_weights()
    with pytest.raises(KeyboardInterrupt):
        tuner.fit(*data, epochs=3, callbacks=[Interrupt()], verbose=0)
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    assert len(tuner.history["loss"]) == 2
    assert all(map(math.isfinite, tuner.history["accuracy"]))
    tuner.fit(*data, verbose=0)
    assert len(tuner.history["loss"]) == 3
