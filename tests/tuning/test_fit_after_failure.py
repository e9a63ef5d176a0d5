"""A fit that fails leaves the tuner as it was: the corrected one trains."""

import keras
import numpy as np
import pytest

from keras_finetune import FineTuner

pytestmark = pytest.mark.backends


def values(model):
    return [np.array(value) for value in model.get_weights()]


class Batches(keras.utils.PyDataset):
    """Not read ahead, so that what is wrong is met in the first step."""

    def __init__(self, *batch):
        super().__init__()
        self.batch = batch

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.batch


class Break(keras.callbacks.Callback):
    """Raise after some steps."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        self.steps -= 1
        if self.steps == 0:
            raise OSError("No space left on device")


WRONG = {
    "no labels": lambda x, y: Batches(x),
    "wrong rank": lambda x, y: Batches(x, np.stack([y, y], axis=1)),
    "another input": lambda x, y: Batches({"ids": x[:, :3]}, y),
}


@pytest.mark.parametrize("frozen", [False, True])
def test_the_corrected_fit_trains(model, data, loss, frozen):
    tuner = FineTuner(model)
    tuner.compile("adam", loss)
    if frozen:
        tuner.freeze("backbone")
    for wrong in (*WRONG.values(), WRONG["no labels"]):
        with pytest.raises(Exception):  # noqa: B017, PT011 - each backend has its own
            tuner.fit(wrong(*data), verbose=0)
        tuner.fit(*data, verbose=0)
    assert np.isfinite(tuner.history["loss"]).all()
    assert len(tuner.history["loss"]) == 4


def test_weights_and_optimizer_go_on_from_where_it_broke_off(make_classifier, data, loss):
    x, y = data
    steps, rows = 2, slice(0, 24)
    results = []
    for breaks in (True, False):
        tuner = FineTuner(make_classifier())
        tuner.compile("adam", loss, learning_rate=0.01)
        tuner.fit(x, y, batch_size=12, shuffle=False, verbose=0)
        if breaks:
            with pytest.raises(OSError, match="No space left"):
                tuner.fit(x, y, batch_size=12, shuffle=False, verbose=0, callbacks=[Break(steps)])
        else:
            tuner.fit(x[rows], y[rows], batch_size=12, shuffle=False, verbose=0)
        tuner.fit(x, y, batch_size=12, shuffle=False, verbose=0)
        results.append(values(tuner.model))
    for received, expected in zip(*results, strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)
