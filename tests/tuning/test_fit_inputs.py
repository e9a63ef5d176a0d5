"""FineTuner takes whatever Keras takes, and any kind of model, and does what Keras does with it."""

import keras
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from keras_finetune import FineTuner

from .conftest import compile_keras

pytestmark = pytest.mark.backends


def values(model):
    return [np.array(value) for value in model.get_weights()]


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x) // 16

    def __getitem__(self, index):
        rows = slice(index * 16, (index + 1) * 16)
        return self.x[rows], self.y[rows]


class ListBatches(Batches):
    def __getitem__(self, index):
        return list(super().__getitem__(index))


def tf_dataset(x, y):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(16)


def generator(x, y):
    return ((x[i : i + 16], y[i : i + 16]) for _ in range(2) for i in range(0, 48, 16))


FORMS = {
    "arrays": lambda x, y: ((x, y), {"batch_size": 16, "shuffle": False}),
    "tf.data": lambda x, y: ((tf_dataset(x, y),), {}),
    "PyDataset": lambda x, y: ((Batches(x, y),), {"shuffle": False}),
    "PyDataset of lists": lambda x, y: ((ListBatches(x, y),), {"shuffle": False}),
    "generator": lambda x, y: ((generator(x, y),), {"steps_per_epoch": 3}),
}


@pytest.fixture(scope="module")
def trained_by_keras(make_classifier, data, loss):
    reference = make_classifier()
    compile_keras(reference, keras.optimizers.SGD(0.1), loss)
    reference.fit(*data, epochs=2, batch_size=16, shuffle=False, verbose=0)
    return values(reference)


@pytest.mark.parametrize("form", FORMS)
def test_same_as_keras(form, trained_by_keras, make_classifier, data, loss):
    arguments, options = FORMS[form](*data)
    tuner = FineTuner(make_classifier())
    tuner.compile("sgd", loss, learning_rate=0.1)
    tuner.fit(*arguments, epochs=2, verbose=0, **options)
    for expected, received in zip(trained_by_keras, values(tuner.model), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-7)


def test_what_keras_shuffles_is_shuffled(monkeypatch):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    given, fit = [], model.fit

    def noted(*args, **kwargs):
        given.append(kwargs.get("shuffle"))
        return fit(*args, **kwargs)

    monkeypatch.setattr(model, "fit", noted)
    tuner = FineTuner(model)
    tuner.compile("sgd", "mse")
    x, y = np.ones((32, 4), "float32"), np.ones((32, 1), "float32")
    data = tf_dataset(x, y)
    for arguments in ((x, y), (csr_matrix(x), y), (Batches(x, y),), (data,)):
        tuner.fit(*arguments, verbose=0)
    assert given == [None, None, None, False]


def test_validation_data_in_any_form(model, data, loss):
    tuner = FineTuner(model)
    tuner.compile("sgd", loss)
    for validation in (data, tf_dataset(*data), Batches(*data)):
        tuner.fit(*data, validation_data=validation, verbose=0)
    tuner.fit(*data, validation_split=0.25, verbose=0)
    assert len(tuner.history["val_loss"]) == 4
    assert np.isfinite(tuner.history["val_loss"]).all()


@pytest.mark.parametrize("cache_frozen", [False, "auto"])
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_split_of_labels_that_are_left_out(cache_frozen):
    inputs = keras.Input((6,))
    x = keras.layers.Dense(5, trainable=False)(inputs)
    model = keras.Model(inputs, [keras.layers.Dense(3, "softmax")(x), keras.layers.Dense(1)(x)])
    tuner = FineTuner(model)
    tuner.compile("sgd", ["sparse_categorical_crossentropy", None])
    rows = np.random.default_rng(0).normal(size=(48, 6)).astype("float32")
    labels = [np.arange(48) % 3, None]
    settings = {"validation_split": 0.25, "cache_frozen": cache_frozen, "verbose": 0}
    assert np.isfinite(tuner.fit(rows, labels, **settings).history["val_loss"]).all()


def test_dict_inputs_and_two_outputs(data):
    x, y = data
    ids = keras.Input((6,), dtype="int32", name="ids")
    hidden = keras.layers.Flatten()(keras.layers.Embedding(20, 4, name="embedding")(ids))
    outputs = {
        "kind": keras.layers.Dense(3, name="head_kind")(hidden),
        "size": keras.layers.Dense(1, name="head_size")(hidden),
    }
    tuner = FineTuner(keras.Model({"ids": ids}, outputs))
    tuner.compile(
        "adam",
        {"kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "size": "mse"},
        learning_rate={"backbone": 1e-4, "head": 1e-2},
    )
    tuner.freeze("backbone")
    targets = {"kind": y, "size": y[:, None].astype("float32")}
    tuner.fit({"ids": x}, targets, epochs=2, verbose=0)
    assert tuner.history["loss"][1] < tuner.history["loss"][0]


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding = keras.layers.Embedding(20, 8)
        self.norm = keras.layers.BatchNormalization()
        self.logits = keras.layers.Dense(3)

    def call(self, ids, training=False):
        x = keras.ops.mean(self.embedding(ids), axis=1)
        return self.logits(self.norm(x, training=training))


def test_a_subclassed_model_frozen_before_it_is_built(data, loss):
    tuner = FineTuner(Subclassed())
    tuner.compile("adam", loss)
    tuner.fit(*data, epochs=1, verbose=0)
    before = values(tuner.model.embedding)
    tuner.freeze("embeddings")
    tuner.fit(*data, epochs=1, verbose=0)
    np.testing.assert_array_equal(before[0], values(tuner.model.embedding)[0])


def test_balanced_class_weight_of_arrays(make_classifier, data, loss):
    x, y = data
    y = np.where(np.arange(48) < 40, 0, y)
    results = []
    for weight in ("balanced", {0: 48 / 3 / 42, 1: 48 / 3 / 3, 2: 48 / 3 / 3}):
        tuner = FineTuner(make_classifier())
        tuner.compile("sgd", loss, learning_rate=0.1)
        tuner.fit(x, y, class_weight=weight, shuffle=False, verbose=0)
        results.append(values(tuner.model))
    assert np.bincount(y).tolist() == [42, 3, 3]
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_steps_of_a_generator_and_a_named_schedule(model, data, loss):
    tuner = FineTuner(model)
    tuner.compile("sgd", loss, schedule="cosine")
    with pytest.raises(ValueError, match="steps_per_epoch"):
        tuner.fit(generator(*data), verbose=0)
    tuner.fit(generator(*data), steps_per_epoch=3, verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.0, abs=1e-6)


def test_a_users_pipeline_is_read_without_autotuning(monkeypatch, model, data, loss):
    read = []
    adapter = keras.src.trainers.data_adapters.get_data_adapter

    def watched(x, *args, **kwargs):
        read.append(x.options().autotune.enabled)
        return adapter(x, *args, **kwargs)

    monkeypatch.setattr(keras.src.trainers.data_adapters, "get_data_adapter", watched)
    given = tf_dataset(*data)
    tf = pytest.importorskip("tensorflow")
    tuned = tf.data.Options()
    tuned.autotune.enabled = True
    tuner = FineTuner(model)
    tuner.compile("sgd", loss)
    tuner.fit(given, validation_data=given, verbose=0)
    tuner.evaluate(given, verbose=0)
    tuner.predict(given, verbose=0)
    assert read == [False] * 4
    tuner.predict(given.with_options(tuned), verbose=0)
    assert read[-1] is True
