"""Whether the frozen layers run once, and what is refused."""

import errno
import os

import keras
import numpy as np
import pytest

from keras_finetune import FineTuner, Stage
from keras_finetune.data import store_writer
from keras_finetune.models import fused
from keras_finetune.tuning import prefix_choice
from keras_finetune.tuning.data_kinds import FitData
from keras_finetune.tuning.find_rows import rows_of
from keras_finetune.tuning.prefix_cache import PrefixCache
from keras_finetune.tuning.prefix_cut import find_cut

from .conftest import compile_keras, losses, make_task, transformer

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("worth_it", [False, True])
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="nothing is fused elsewhere")
def test_kernels_are_compiled_for_many_tokens_only(worth_it, monkeypatch):
    if worth_it:
        monkeypatch.setattr(prefix_choice, "_WORTH_COMPILING", 1)
    seen, serve = [], PrefixCache.dataset

    def spied(*args, **kwargs):
        seen.append(fused.is_fusing())
        return serve(*args, **kwargs)

    monkeypatch.setattr(PrefixCache, "dataset", spied)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    x = np.ones((8, 4), "float32")
    FineTuner(model).fit(x, x[:, :1], epochs=2, cache_frozen=True, verbose=0)
    assert seen == [worth_it]
    assert fused.is_fusing()


def test_rows_that_are_seldom_drawn_anew_are_refused(task):
    data = task.dataset(task.rows, batch_size=16)
    plain = data.read

    def read(rows, width, rng):
        x, y = plain(rows, width, rng)
        hidden = rng.random(len(rows)) < 0.001
        return {**x, "token_ids": np.where(hidden[:, None], 1, x["token_ids"])}, y

    assert rows_of(data, None).refusal() is None
    data.read = read
    assert "drawn anew" in rows_of(data, None).refusal()


@pytest.mark.parametrize("wrong", [None, "", 3, "Auto", "true"])
def test_cache_frozen_is_checked_first(task, wrong):
    with pytest.raises(ValueError, match='cache_frozen must be "auto", True, False or a folder'):
        losses(task, lambda: transformer(task), wrong)


def test_random_pipelines_are_refused():
    tf = pytest.importorskip("tensorflow")
    x, y = np.random.default_rng(0).normal(size=(64, 5)).astype("float32"), np.arange(64) % 2
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(64).batch(8)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    model.layers[0].trainable = False
    tuner = FineTuner(model)
    tuner.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match="other batches at every reading"):
        tuner.fit(data, epochs=2, cache_frozen=True, verbose=0)
    tuner.fit(data, epochs=2, verbose=0)


def test_a_model_that_heeds_padding_is_refused():
    task = make_task([3, 28])
    keras.utils.set_random_seed(0)
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    mask = keras.Input((None,), dtype="bool", name="padding_mask")
    x = keras.layers.Embedding(task.tokenizer.vocab_size, 8, name="embedding")(ids)
    x = keras.layers.Dense(8, name="low")(x)
    x = keras.layers.Lambda(lambda x: keras.ops.sum(x, 1), output_shape=(8,))(x)
    model = keras.Model(
        {"token_ids": ids, "padding_mask": mask}, keras.layers.Dense(2, name="out")(x)
    )
    model.get_layer("embedding").trainable = model.get_layer("low").trainable = False
    tuner = FineTuner(model)
    tuner.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match="depends on how far"):
        tuner.fit(task.dataset(task.rows), epochs=2, cache_frozen=True, verbose=0)


@pytest.mark.parametrize("without", ["text", "optional"])
def test_inputs_that_are_no_numbers_are_not_kept(without):
    if without == "text":
        names = keras.Input((1,), dtype="string", name="names")
        lookup = keras.layers.StringLookup(vocabulary=["a", "b"])
        low = keras.layers.Embedding(3, 4, name="low")(lookup(names))
        inputs, x = names, np.array([["a"], ["b"]] * 8)
        low = keras.layers.Flatten()(low)
    else:
        inputs = [keras.Input((4,), name="one"), keras.Input((4,), name="two", optional=True)]
        low = keras.layers.Dense(4, name="low")(inputs[0])
        x = [np.ones((16, 4), "float32"), None]
    tuner = FineTuner(keras.Model(inputs, keras.layers.Dense(2, name="out")(low)))
    tuner.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    tuner.freeze("low")
    if without == "text":
        import tensorflow as tf

        x = tf.constant(x)
    y = np.arange(16) % 2
    with pytest.raises(ValueError, match="some inputs are text, or left out"):
        tuner.fit(x, y, epochs=2, cache_frozen=True, verbose=0)
    tuner.fit(x, y, epochs=2, verbose=0)


def test_choices_that_are_made_rows_are_refused():
    ids = keras.Input((3, 5), dtype="int32")
    x = keras.layers.Embedding(9, 4, name="embedding")(keras.ops.reshape(ids, (-1, 5)))
    scores = keras.layers.Dense(1, name="score")(keras.ops.mean(x, axis=1))
    model = keras.Model(ids, keras.ops.reshape(scores, (-1, 3)))
    x, y = np.random.default_rng(0).integers(0, 9, (16, 3, 5)), np.arange(16) % 3
    tuner = FineTuner(model)
    tuner.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    tuner.freeze("embedding")
    with pytest.raises(ValueError, match="makes other rows of the data's"):
        tuner.fit(x, y, epochs=2, cache_frozen=True, verbose=0)
    tuner.fit(x, y, epochs=2, verbose=0)


def test_a_model_that_mixes_rows_is_refused():
    inputs = keras.Input((6, 4))
    x = keras.layers.Dense(5, name="low")(inputs)
    x = x - keras.ops.mean(x, axis=0, keepdims=True)
    model = keras.Model(inputs, keras.layers.Dense(2, name="out")(x))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(24, 6, 4)).astype("float32"), rng.integers(0, 2, (24, 6))
    tuner = FineTuner(model)
    tuner.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    tuner.freeze("low")
    with pytest.raises(ValueError, match="depends on the other rows of its batch"):
        tuner.fit(x, y, batch_size=8, epochs=2, cache_frozen=True, verbose=0)


def test_nothing_frozen_is_said(task):
    tuner = FineTuner(transformer(task))
    tuner.compile("adam")
    with pytest.raises(ValueError, match="no layer below the lowest trainable one is frozen"):
        tuner.fit(task.dataset(task.rows), cache_frozen=True, verbose=0)


def test_the_disk_budget_is_kept(task, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_FINETUNE_CACHE_GB", "0.000001")
    with pytest.raises(ValueError, match=r"their activations take .* of 0.001 MB for caches"):
        losses(task, lambda: transformer(task), True)
    monkeypatch.setenv("KERAS_FINETUNE_CACHE_GB", "lots")
    with pytest.raises(ValueError, match=r"must be a number of gigabytes.*'lots'"):
        losses(task, lambda: transformer(task), True)


def test_auto_does_not_cache_what_is_computed_at_once(task, computed, capsys):
    tuner = FineTuner(transformer(task))
    tuner.compile("adam")
    tuner.freeze("backbone")
    tuner.fit(task.dataset(task.rows), epochs=2, verbose=2)
    assert not computed
    assert "run in every epoch: there is little to compute" in capsys.readouterr().err


def test_auto_caches_what_takes_long_in_several_epochs(task, computed, capsys, monkeypatch):
    monkeypatch.setattr("keras_finetune.tuning.prefix_choice._LEAST_SAVED", 1.0)
    tuner = FineTuner(transformer(task))
    tuner.compile("adam")
    tuner.freeze("backbone")
    tuner.fit(task.dataset(task.rows), epochs=1, verbose=2)
    assert not computed
    assert "frozen layers" not in capsys.readouterr().err
    tuner.fit(task.dataset(task.rows), epochs=4, verbose=2)
    assert len(computed) == 1
    assert "The frozen layers run once, not 4 times" in capsys.readouterr().err


class LooksAtItsInputs(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.mean((y - y_pred) ** 2) + 0.0 * keras.ops.mean(x["features"])


class MeasuresItsInputs(keras.Model):
    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        metrics = super().compute_metrics(x, y, y_pred, sample_weight)
        return metrics | {"mean": keras.ops.mean(x["features"])}


def frozen_below(model_class):
    features = keras.Input((4,), name="features")
    hidden = keras.layers.Dense(3, name="low", trainable=False)(features)
    model = model_class({"features": features}, keras.layers.Dense(1, name="head")(hidden))
    model.compile("sgd", "mse")
    return model


DATA = {"features": np.ones((8, 4), "float32")}, np.ones((8, 1), "float32")


@pytest.mark.backends
@pytest.mark.parametrize("model_class", [LooksAtItsInputs, MeasuresItsInputs])
def test_a_model_that_looks_at_its_inputs_keeps_them(model_class, monkeypatch, capsys):
    monkeypatch.setattr(prefix_choice, "_LEAST_SAVED", 1)
    tuner = FineTuner(frozen_below(model_class))
    for call in (tuner.fit, tuner.estimate):
        with pytest.raises(ValueError, match=r"the model has a compute_\w+ of its own"):
            call(*DATA, epochs=2, cache_frozen=True, verbose=0)
    tuner.fit(*DATA, epochs=2, verbose=2)
    assert "run in every epoch: the model has a compute_" in capsys.readouterr().err
    assert len(tuner.history["loss"]) == 2


@pytest.mark.backends
@pytest.mark.parametrize("number", [errno.EFBIG, errno.ENOSPC])
def test_auto_goes_on_where_nothing_can_be_written(number, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(prefix_choice, "_LEAST_SAVED", 1)

    def failing(self, array):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(store_writer._CountedFile, "write", failing)
    tuner = FineTuner(frozen_below(keras.Model))
    for asked in (True, tmp_path):
        with pytest.raises(OSError, match=r"'train'.*cache_frozen another folder") as caught:
            tuner.fit(*DATA, epochs=2, cache_frozen=asked, verbose=0)
        assert caught.value.errno == number
        assert asked is True or str(tmp_path) in str(caught.value)
    tuner.fit(*DATA, epochs=2, validation_data=DATA, verbose=2)
    said = capsys.readouterr().err
    assert "The frozen layers run in every epoch: " in said
    assert "the store 'train'" in said.lower()
    assert len(tuner.history["loss"]) == 2


class AddsALoss(keras.layers.Dense):
    def call(self, inputs):
        found = super().call(inputs)
        self.add_loss(keras.ops.mean(found**2))
        return found


@pytest.mark.backends
@pytest.mark.parametrize("given", ["arrays", "pipeline"])
def test_losses_that_a_frozen_layer_adds_count(given, monkeypatch, capsys):
    monkeypatch.setattr(prefix_choice, "_LEAST_SAVED", 1)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 4)).astype("float32"), np.ones((16, 1), "float32")
    data = (x, y)
    if given == "pipeline":
        tf = pytest.importorskip("tensorflow")
        data = (tf.data.Dataset.from_tensor_slices((x, y)).batch(8),)

    def make():
        keras.utils.set_random_seed(0)
        low = AddsALoss(3, name="low", kernel_regularizer="l2", trainable=False)
        model = keras.Sequential([keras.Input((4,)), low, keras.layers.Dense(1)])
        compile_keras(model, "sgd", "mse")
        return model

    settings = {"epochs": 2, "shuffle": False, "validation_data": (x, y)}
    settings |= {"batch_size": 8} if given == "arrays" else {}
    expected = make().fit(*data, verbose=0, **settings).history
    tuner = FineTuner(make())
    for call in (tuner.fit, tuner.estimate):
        with pytest.raises(ValueError, match="the layer 'low' adds a loss"):
            call(*data, **settings, cache_frozen=True, verbose=0)
    tuner.fit(*data, **settings, verbose=2)
    assert "run in every epoch: the layer 'low' adds a loss" in capsys.readouterr().err
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(tuner.history[name], expected[name], rtol=1e-5)


def test_stages_are_cached_where_layers_are_frozen():
    tuner = FineTuner(frozen_below(keras.Model))
    stages = [Stage("head", ("head",)), Stage("all", ("head", "low"))]
    estimate = tuner.estimate(*DATA, stages=stages, cache_frozen=True)
    assert [stage.cache_gb > 0 for stage in estimate.stages] == [True, False]
    tuner.fit_stages(stages, *DATA, cache_frozen=True, verbose=0)
    assert len(tuner.history["loss"]) == 2


@pytest.mark.backends
def test_tokens_are_counted_alike_in_blocks_and_in_all_rows():
    narrow, wide = keras.Input((2,), name="features"), keras.Input((64,), name="tokens")
    joined = keras.layers.Concatenate()(
        [keras.layers.Dense(3)(wide), keras.layers.Dense(3)(narrow)]
    )
    # The graph's first input is not the first of the dict.
    model = keras.Model([wide, narrow], keras.layers.Dense(1)(joined))
    for layer in model.layers[:-1]:
        layer.trainable = False
    x = {"tokens": np.ones((40, 64), "float32"), "features": np.ones((40, 2), "float32")}
    data = FitData(x, np.ones((40, 1)), None, {})
    plan = prefix_choice.plan_cache(find_cut(model), data, PrefixCache().folder, 3, asked=True)
    blocks = [prefix_choice.count_tokens(block.x, block.lengths) for block in plan.rows.blocks()]
    assert plan.tokens == sum(blocks)
