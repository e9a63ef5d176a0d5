import keras
import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune.tuning.report import FitReport


@pytest.fixture
def tuner():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2, name="head")])
    tuner = kft.FineTuner(model)
    tuner.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return tuner


X, Y = np.random.default_rng(0).normal(size=(40, 8)).astype("float32"), np.arange(40) % 2


def test_before_a_fit_there_is_nothing_to_report(tuner):
    with pytest.raises(RuntimeError, match="nothing to report yet"):
        tuner.report()


@pytest.mark.backends
def test_arrays(tuner):
    tuner.fit(X, Y, batch_size=8, epochs=3, verbose=0)
    report = tuner.report()
    assert (report.epochs, report.steps, report.steps_per_execution) == (3, 5, 1)
    assert report.padding_share is None
    assert 0 < report.first_step_seconds < report.seconds
    assert "call" not in vars(tuner.model)


@pytest.mark.backends
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch does not trace")
def test_a_second_fit_traces_nothing(tuner):
    tuner.fit(X, Y, batch_size=8, verbose=0)
    assert tuner.report().traces >= 1
    tuner.fit(X, Y, batch_size=8, verbose=0)
    assert tuner.report().traces == 0


@pytest.mark.backends
def test_what_torch_compile_reads_is_the_model_s_own_call(tuner):
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append("call" in vars(self.model))

    tuner.fit(X, Y, batch_size=8, verbose=0, callbacks=[Look()])
    assert seen == [keras.backend.backend() != "torch"]


def test_the_share_of_padding_is_the_plan_s():
    texts = ["a b c " * n for n in range(1, 33)]
    tokenizer = kft.data.Tokenizer.train(texts, vocab_size=300, progress=False)
    task = kft.tasks.TextClassification(["x", "y"], tokenizer, max_length=32)
    backbone = kft.models.ngram_encoder(tokenizer.vocab_size, 8, num_buckets=99)
    tuner = kft.FineTuner(task.build(backbone))
    data = task.dataset({"text": texts, "label": ["x", "y"] * 16}, batch_size=8)
    tuner.fit(data, epochs=2, verbose=0)
    report = tuner.report()
    assert report.padding_share == data.plan(0).padding_share > 0
    assert report.rows == 32
    assert report.samples_per_second == pytest.approx(64 / report.seconds)
    tuner.fit(data, steps_per_epoch=3, verbose=0)
    assert tuner.report().rows == 24


def test_a_table_shows_it(capsys):
    import rich

    rich.print(FitReport(2, 10, 320, 4.0, 1.5, 0.125, 8, 1))
    shown = capsys.readouterr().out
    for part in ("160.0", "12.5% of the computed tokens", "10 an epoch, 8 at a time", "1.5 s"):
        assert part in shown
    rich.print(FitReport(1, None, None, 4.0, 1.5, None, 1, None))
    assert "not known" in capsys.readouterr().out
