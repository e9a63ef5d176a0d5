import keras
import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune.data import Ragged, build_store, make_dataset
from keras_finetune.tuning.data_kinds import as_keras_reads
from keras_finetune.tuning.numpy_batches import NumpyBatches

pytestmark = pytest.mark.backends


def make(folder, shuffle=True):
    """Eleven rows of one to six tokens, in three batches."""
    lengths = np.array([1, 5, 6, 2, 4, 3, 6, 1, 2, 5, 3])
    tokens = np.random.default_rng(0).integers(1, 20, lengths.sum())
    rows = {
        "token_ids": Ragged(tokens, np.concatenate([[0], lengths.cumsum()])),
        "label": np.arange(11) % 3,
    }
    store = build_store(folder / "store", "v1", lambda: [rows])

    def features(batch, rng):
        x = batch["token_ids"]
        return np.pad(x, ((0, 0), (0, 8 - x.shape[1]))).astype("int32"), batch["label"]

    return make_dataset(store, features, batch_size=4, shuffle=shuffle)


@pytest.fixture
def dataset(tmp_path):
    return make(tmp_path)


def labels(batches):
    return [np.asarray(y).tolist() for _, y in batches]


def test_the_batches_are_those_of_the_data_set(dataset):
    expected = [labels(dataset.start_at(epoch)) for epoch in range(2)]
    batches = NumpyBatches(dataset)
    assert batches.num_batches == 3
    assert [labels(map(batches.__getitem__, range(3))) for _ in range(2)] == expected
    assert expected[0] != expected[1]


def test_a_first_step_begins_the_next_epoch(dataset):
    expected = labels(dataset.start_at(1))
    batches = NumpyBatches(dataset)
    batches[0]
    assert labels(map(batches.__getitem__, range(3))) == expected


def test_only_data_sets_of_this_library_are_read_so_and_not_on_tensorflow(dataset):
    on_tensorflow = keras.backend.backend() == "tensorflow"
    model = keras.Sequential()
    assert isinstance(as_keras_reads(dataset, model), NumpyBatches) is not on_tensorflow
    assert not isinstance(as_keras_reads(dataset.take(2), model), NumpyBatches)


class Own(keras.Model):
    def fit(self, x, *args, **kwargs):
        return super().fit(x, *args, **kwargs)


def test_a_fit_of_the_models_own_gets_the_data_set_itself(dataset):
    assert not isinstance(as_keras_reads(dataset, Own()), NumpyBatches)


def losses_of_a_fit(dataset, **fit_args):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8,), dtype="int32"), keras.layers.Embedding(20, 4), keras.layers.Flatten()]
    )
    model.add(keras.layers.Dense(3))
    tuner = kft.FineTuner(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    tuner.compile(keras.optimizers.SGD(0.1), loss)
    losses = []
    keep = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: losses.append(round(float(logs["loss"]), 4))
    )
    tuner.fit(dataset, epochs=2, callbacks=[keep], verbose=0, **fit_args)
    return losses


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")
def test_keras_does_not_shuffle_the_steps(dataset):
    assert losses_of_a_fit(dataset, shuffle=True) == losses_of_a_fit(dataset)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    tuner = kft.FineTuner(model)
    tuner.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert tuner.estimate(dataset, shuffle=True).seconds > 0


def test_fit_evaluate_and_predict_leave_tensorflow_out(dataset, tmp_path, monkeypatch):
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow reads by its own threads")
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    tuner = kft.FineTuner(model)
    tuner.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def refuse(self):
        raise AssertionError("read by TensorFlow")

    monkeypatch.setattr(type(dataset), "__iter__", refuse)
    history = tuner.fit(dataset, validation_data=dataset.start_at(0), epochs=2, verbose=0)
    assert len(history.history["val_loss"]) == 2
    assert tuner.evaluate(dataset, verbose=0)["loss"] > 0
    in_order = make(tmp_path / "in_order", shuffle=False)
    assert tuner.predict(in_order, verbose=0).shape == (11, 3)
