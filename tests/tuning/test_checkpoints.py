"""What Keras's own callbacks save of a tuned model loads again."""

import keras
import numpy as np
import pytest

from keras_finetune import FineTuner

pytestmark = pytest.mark.backends


def test_model_checkpoint_with_rates_by_role(model, data, loss, tmp_path):
    tuner = FineTuner(model)
    tuner.compile("adam", loss, learning_rate={"backbone": 1e-3, "head": 1e-2}, schedule="linear")
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    tuner.fit(*data, epochs=2, callbacks=[checkpoint], verbose=0)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    saved, again = tuner.model.optimizer.variables, loaded.optimizer.variables
    assert len(saved) == len(again) > 10
    for a, b in zip(saved, again, strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b), rtol=1e-6
        )
    loaded.fit(*data, verbose=0)

    tuner = FineTuner(loaded)
    with pytest.raises(ValueError, match=r"Call FineTuner\.compile"):
        tuner.fit(*data, verbose=0)
    tuner.compile("adam", learning_rate={"backbone": 1e-3, "head": 1e-2})
    tuner.freeze("backbone")
    tuner.fit(*data, verbose=0)


def test_backup_and_restore(model, data, loss, tmp_path):
    tuner = FineTuner(model)
    tuner.compile("adam", loss, learning_rate={"backbone": 1e-3, "head": 1e-2})
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    tuner.fit(*data, epochs=2, callbacks=[backup], verbose=0)
    assert len(tuner.history["loss"]) == 2
