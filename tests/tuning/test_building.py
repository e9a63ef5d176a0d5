import keras
import numpy as np

from keras_finetune.tuning.building import build


class Lazy(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, x):
        return self.dense(x)


def test_subclassed_model_is_built_on_one_row():
    model = Lazy()
    build(model, np.ones((4, 3)))
    assert model.dense.kernel.shape == (3, 2)


def test_from_a_tf_dataset():
    import tensorflow as tf

    model = Lazy()
    dataset = tf.data.Dataset.from_tensors((np.ones((4, 3), "float32"), np.ones(4)))
    build(model, dataset)
    assert model.built


def test_a_built_model_reads_nothing():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    build(model, iter([]))
