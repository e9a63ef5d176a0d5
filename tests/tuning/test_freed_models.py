"""Nothing of a model that was trained stays in memory once the model is gone."""

import gc
import weakref

import keras
import numpy as np
import pytest

import keras_finetune as kft


def graphs():
    gc.collect()
    return sum(type(x).__name__ == "FuncGraph" for x in gc.get_objects())


def transformer():
    return kft.models.transformer_encoder(9, num_layers=1, num_heads=2, hidden_dim=8, max_length=8)


def lstm():
    return kft.models.lstm_encoder(9, 4, embedding_dim=4)


def fit(backbone, frozen):
    tuner = kft.FineTuner(kft.models.text_classifier(backbone, num_classes=2))
    if frozen:
        tuner.freeze("backbone")
    tuner.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ids = np.ones((8, 6), "int32")
    inputs = {"token_ids": ids, "padding_mask": ids > 0, "segment_ids": 0 * ids}
    inputs = {name: inputs[name] for name in tuner.model.input}
    tuner.fit(inputs, np.arange(8) % 2, epochs=1, verbose=0)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="graphs of TensorFlow's")
@pytest.mark.parametrize(
    ("backbone", "frozen"),
    [(transformer, False), (transformer, True), (lstm, False)],
    ids=["transformer", "frozen transformer", "lstm"],
)
def test_no_graph_stays(backbone, frozen):
    fit(backbone(), frozen)  # Kernels are traced once for each shape, and stay.
    before = graphs()
    fit(backbone(), frozen)
    assert graphs() == before


@pytest.mark.backends
@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("kind", ["arrays", "tf.data"])
def test_neither_model_nor_rows_of_a_cached_fit_stay(kind, loss):
    import tensorflow as tf

    def fit_cached():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="low")])
        model.add(keras.layers.Dense(2))
        tuner = kft.FineTuner(model)
        tuner.freeze("low")
        tuner.compile(loss=loss)
        rows = np.ones((8, 4), "float32"), np.arange(8) % 2
        data = rows if kind == "arrays" else (tf.data.Dataset.from_tensor_slices(rows).batch(4),)
        tuner.fit(*data, epochs=2, verbose=0, cache_frozen=True)
        return weakref.ref(model), weakref.ref(rows[0])

    model, rows = fit_cached()
    gc.collect()
    assert (model(), rows()) == (None, None)
