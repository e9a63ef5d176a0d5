"""What `FineTuner` refuses before Keras sees it."""

import math
import os
import re

import keras
import numpy as np
import pytest

from keras_finetune import FineTuner, Stage

pytestmark = pytest.mark.backends


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"optimizer": "adamm"}, "Did you mean"),
        ({"optimizer": 3}, "optimizer must be"),
        ({"schedule": "cosin"}, "Did you mean"),
        ({"learning_rate": {"hed": 1e-3, "*": 1e-4}}, "Did you mean"),
        ({"learning_rate": "fast"}, "must be a float"),
        ({"learning_rate": math.inf}, "must be a float >= 0, not infinite"),
        ({"learning_rate": {}}, "learning_rate names no layers"),
        ({"layer_decay": 2.0}, "layer_decay"),
        ({"layer_decay": "a"}, r"layer_decay must be in \(0, 1\]. Received: 'a'"),
        ({"steps_per_execution": 0}, "steps_per_execution must be an int of at least 1"),
        ({"precision": 16}, "precision=16: there are auto, float32"),
        ({"warmup": -1}, "warmup must be"),
        ({"warmup": "x"}, "warmup must be >= 0: .* Received: 'x'"),
        ({"warmup": math.nan}, "warmup must be"),
        ({"loss": "sparse_categorical_crossentropi"}, "Keras has no loss .* Did you mean"),
        ({"loss": {"head_logits": "nonsense"}}, "Keras has no loss 'nonsense'"),
        ({"loss": 3}, "loss must be names or functions"),
        ({"metrics": ["acuracy"]}, "Keras has no metric 'acuracy'. Did you mean \"accuracy\""),
        ({"weighted_metrics": [["nonsense"]]}, "Keras has no metric 'nonsense'"),
        ({"metrics": ["MeanIoU"]}, "Give the object"),
        ({"metrics": "accuracy"}, r'metrics must be a list, as in metrics=\["accuracy"\]'),
        ({"loss": keras.losses.serialize(keras.losses.Huber())}, "'Huber'. Give keras.losses.dese"),
        (
            {"loss": [keras.losses.serialize(keras.losses.poisson)]},
            "the dict that keras.saving",
        ),
        ({"loss": "sparse_categorical_crossentropy"}, "expects probabilities"),
    ],
)
def test_compile_refuses(model, loss, wrong, message):
    with pytest.raises(ValueError, match=message):
        FineTuner(model).compile(**{"optimizer": "adam", "loss": loss, **wrong})


@pytest.mark.parametrize(
    ("call", "wrong", "meant"),
    [
        ("compile", "lr", "learning_rate"),
        ("compile", "metric", "metrics"),
        ("fit", "epoch", "epochs"),
        ("fit", "validation_dat", "validation_data"),
        ("estimate", "batchsize", "batch_size"),
    ],
)
def test_unknown_arguments(model, data, loss, call, wrong, meant):
    tuner = FineTuner(model)
    tuner.compile("adam", loss)
    arguments = ("adam", loss) if call == "compile" else data
    with pytest.raises(TypeError, match=f"takes no argument '{wrong}'. Did you mean \"{meant}\""):
        getattr(tuner, call)(*arguments, **{wrong: 1})


@pytest.mark.parametrize(
    ("call", "wrong", "right"),
    [
        ("fit", "lr", "compile(..., learning_rate=...)"),
        ("fit", "schedule", "compile(..., schedule=...)"),
        ("fit_stages", "learning_rate", "compile(..., learning_rate=...)"),
        ("estimate", "precision", "compile(..., precision=...)"),
        ("compile", "batch_size", "fit(..., batch_size=...)"),
    ],
)
def test_arguments_of_another_method(model, data, loss, call, wrong, right):
    tuner = FineTuner(model)
    tuner.compile("adam", loss)
    arguments = {"compile": ("adam", loss), "fit_stages": ([Stage("head", ("head",))], *data)}
    with pytest.raises(TypeError, match=re.escape(f"no argument '{wrong}'. Give it to {right}")):
        getattr(tuner, call)(*arguments.get(call, data), **{wrong: 1})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs must be an int of at least 1. Received: epochs=0"),
        ({"epochs": True}, "epochs must be an int"),
        ({"early_stopping": 3}, "early_stopping must be True, False or a keras.callbacks"),
        ({"early_stopping": keras.callbacks.EarlyStopping()}, "needs validation_data"),
        ({"callbacks": [None]}, "callbacks must be a keras.callbacks.Callback .* Received: None"),
        ({"callbacks": [keras.callbacks.TerminateOnNaN]}, r"Make one of it: TerminateOnNaN\("),
        ({"callbacks": "TerminateOnNaN"}, "callbacks must be .* Received: 'TerminateOnNaN'"),
        ({"cache_frozen": "maybe"}, "cache_frozen='maybe', a folder to keep activations in, is"),
    ],
)
def test_fit_refuses(model, data, loss, wrong, message):
    tuner = FineTuner(model)
    tuner.compile("adam", loss)
    with pytest.raises(ValueError, match=message):
        tuner.fit(*data, **wrong, verbose=0)
    assert tuner.history == {}


@pytest.mark.parametrize("call", ["fit", "fit_stages", "estimate"])
@pytest.mark.parametrize("below", ["", "/activations", "/proc/activations"])
def test_what_is_no_folder_to_write_to(model, data, loss, tmp_path, call, below):
    if below.startswith("/proc") and not os.path.exists("/proc/self"):
        pytest.skip("needs Linux's folder that takes no files")
    file = tmp_path / "file"
    file.write_text("kept")
    tuner = FineTuner(model)
    tuner.compile("adam", loss)
    folder = below if below.startswith("/proc") else f"{file}{below}"
    arguments = ([Stage("head", ("head",))], *data) if call == "fit_stages" else data
    with pytest.raises(ValueError, match="cache_frozen must be a folder that can be written to"):
        getattr(tuner, call)(*arguments, cache_frozen=folder)
    assert file.read_text() == "kept"
    assert model.get_layer("block_0").trainable


def test_numpy_numbers_are_numbers(model, data, loss):
    tuner = FineTuner(model)
    tuner.compile("adam", loss, learning_rate=np.float32(0.01), schedule="linear")
    tuner.fit(*data, epochs=np.int64(2), verbose=0)
    assert len(tuner.history["loss"]) == 2
    tuner.freeze("backbone", bottom=np.int32(1))
    tuner.fit_stages([Stage("head", ("head",), epochs=np.int64(1))], *data, verbose=0)
    assert len(tuner.history["loss"]) == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "batch_size must be an int of at least 1"),
        ({"batch_size": "8"}, "batch_size must be an int of at least 1"),
        ({"steps_per_epoch": -1}, "steps_per_epoch must be an int of at least 1"),
        ({"initial_epoch": None}, "initial_epoch must be an int from 0 to below epochs"),
        ({"initial_epoch": -1}, "initial_epoch must be an int from 0 to below epochs"),
        ({"initial_epoch": 2, "epochs": 2}, "For n more epochs give epochs=initial_epoch . n"),
        ({"validation_freq": 0}, "validation_freq must be an int of at least 1, or a list"),
        ({"validation_split": 1.5}, "validation_split must be a float from 0 to below 1"),
        ({"validation_split": "0.1"}, "validation_split must be a float from 0 to below 1"),
    ],
)
def test_sizes_that_keras_trains_with(wrong, message):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((8, 4), "float32")
    with pytest.raises(ValueError, match=message):
        FineTuner(model).fit(x, x[:, :1], verbose=0, **wrong)


def test_a_generator_is_read_once(model, data, loss):
    tuner = FineTuner(model)
    tuner.compile("adam", loss)
    rows = lambda: ((x[None], y[None]) for x, y in zip(*data, strict=True))  # noqa: E731
    with pytest.raises(ValueError, match="A generator gives its rows once, but 3 epochs"):
        tuner.fit(rows(), epochs=3, verbose=0)
    stages = [Stage(name, ("head",), epochs=1) for name in ("first", "second")]
    with pytest.raises(ValueError, match="but 2 epochs read them 2 times"):
        tuner.fit_stages(stages, rows(), verbose=0)
    assert tuner.history == {}
    tuner.fit(rows(), epochs=2, steps_per_epoch=3, verbose=0)
    assert len(tuner.history["loss"]) == 2


def test_a_pipeline_that_never_ends(model, data, loss):
    tf = pytest.importorskip("tensorflow")
    finite = tf.data.Dataset.from_tensor_slices(data).batch(16)
    tuner = FineTuner(model)
    tuner.compile("sgd", loss)
    for method in (tuner.fit, tuner.estimate):
        with pytest.raises(
            ValueError, match=r"training data .* never ends.* steps_per_epoch=\.\.\."
        ):
            method(finite.repeat(), verbose=0)
        with pytest.raises(ValueError, match=r"validation data .* Give validation_steps=\.\.\."):
            method(finite, validation_data=finite.repeat(), verbose=0)
    steps = {"steps_per_epoch": 2, "validation_steps": 1}
    tuner.fit(finite.repeat(), validation_data=finite.repeat(), verbose=0, **steps)
    for method in (tuner.evaluate, tuner.predict):
        with pytest.raises(ValueError, match=r"data is .* never ends.* Give steps=\.\.\."):
            method(finite.repeat(), verbose=0)
        method(finite.repeat(), steps=1, verbose=0)


def test_one_callback_alone_is_taken_as_keras_takes_it(model, data, loss):
    tuner = FineTuner(model)
    tuner.compile("sgd", loss)
    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    tuner.fit(*data, callbacks=callback, epochs=2, initial_epoch=1, verbose=0)
    assert seen == [1]


def test_stages_say_their_epochs(model, data, loss):
    tuner = FineTuner(model)
    tuner.compile("sgd", loss)
    with pytest.raises(ValueError, match="Leave initial_epoch out of fit_stages"):
        tuner.fit_stages([Stage("head", ("head",))], *data, initial_epoch=1, verbose=0)


def test_a_rate_may_be_an_int(model, data, loss):
    tuner = FineTuner(model)
    tuner.compile("sgd", loss, learning_rate=1)
    tuner.fit(*data, verbose=0)
    assert float(model.optimizer.learning_rate) == 1.0


def test_flags_of_fit_and_data_of_predict(model, data, loss):
    tuner = FineTuner(model)
    tuner.compile("sgd", loss)
    with pytest.raises(ValueError, match="frozen_dropout must be True or False"):
        tuner.fit(*data, frozen_dropout="no", verbose=0)
    with pytest.raises(ValueError, match="frozen_dropout must be True or False"):
        tuner.estimate(*data, frozen_dropout="no")
    tuner.fit(*data, frozen_dropout=np.bool_(False), verbose=0)
    with pytest.raises(ValueError, match="predict needs data"):
        tuner.predict(None)


def test_a_class_is_no_loss():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"loss must be names or functions.*keras\.losses"):
        FineTuner(model).compile("sgd", loss=keras.losses.MeanSquaredError)
