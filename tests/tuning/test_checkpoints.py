"""What Keras's own callbacks save of a tuned model loads again."""

import keras
import numpy as np
import pytest

import keras_finetune as kft
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


class Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise RuntimeError("killed")


def test_a_killed_run_resumes_where_it_was(task, tmp_path):
    def begin():
        keras.utils.set_random_seed(0)
        encoder = kft.models.ngram_encoder(task.tokenizer.vocab_size, 8, num_buckets=99)
        tuner = FineTuner(task.build(encoder, dropout=0.0))
        tuner.compile("adam", learning_rate={"backbone": 1e-3, "head": 1e-2})
        return tuner, task.dataset(task.rows, batch_size=16, seed=3)

    def run(tuner, data, folder, *callbacks):
        seen = []
        look = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: seen.append((epoch, data.epochs.next))
        )
        for stage, epochs in enumerate((2, 3)):
            (tuner.freeze if stage else tuner.unfreeze)("head")
            backup = keras.callbacks.BackupAndRestore(
                tmp_path / folder / str(stage), delete_checkpoint=False
            )
            now = [look, backup, *(callbacks if stage else ())]
            tuner.fit(data, epochs=epochs, callbacks=now, verbose=0)
        return seen

    whole = begin()
    assert run(*whole, "whole") == [(0, 0), (1, 1), (0, 2), (1, 3), (2, 4)]
    killed = begin()
    with pytest.raises(RuntimeError, match="killed"):
        run(*killed, "killed", Kill())
    resumed = begin()
    assert run(*resumed, "killed") == [(1, 3), (2, 4)]
    for one, other in zip(whole[0].model.weights, resumed[0].model.weights, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (one, other)))
    # What follows goes on as after the whole run, and does not begin at the backup's epoch.
    look = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append((epoch, resumed[1].epochs.next))
    )
    seen = []
    resumed[0].fit(resumed[1], callbacks=[look], verbose=0)
    assert seen == [(0, 5)]
