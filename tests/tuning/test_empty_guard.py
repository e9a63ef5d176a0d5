import keras
import numpy as np
import pytest

from keras_finetune import FineTuner

X, Y = np.ones((8, 4), "float32"), np.arange(8) % 2


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="Keras itself fails there, without a batch"
)
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_data_sets_that_turn_out_empty(loss):
    tf = pytest.importorskip("tensorflow")
    rows = tf.data.Dataset.from_tensor_slices((X, Y))
    empty = rows.filter(lambda x, y: y > 9).batch(4)
    tuner = FineTuner(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    tuner.compile("sgd", loss)
    with pytest.raises(ValueError, match="training data is empty: the data set gave no batch"):
        tuner.fit(empty, validation_data=rows.batch(4), epochs=2, verbose=0)
    with pytest.raises(ValueError, match="validation data is empty"):
        tuner.fit(rows.batch(4), validation_data=empty, verbose=0)
    assert tuner.history == {}
    tuner.fit(rows.batch(4), verbose=0)
    assert len(tuner.history["loss"]) == 1


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="Keras itself fails there, without a batch"
)
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_evaluating_what_turns_out_empty(loss):
    tf = pytest.importorskip("tensorflow")
    rows = tf.data.Dataset.from_tensor_slices((X, Y))
    tuner = FineTuner(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    tuner.compile("sgd", loss)
    tuner.fit(X, Y, verbose=0)
    with pytest.raises(ValueError, match="evaluation data is empty: the data set gave no batch"):
        tuner.evaluate(rows.filter(lambda x, y: y > 9).batch(4), verbose=0)
