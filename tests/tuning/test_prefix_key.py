"""What activations are found again by."""

import keras
import numpy as np
import pytest

from keras_finetune.tuning.prefix_cut import find_cut
from keras_finetune.tuning.prefix_key import prefix_key, why_no_key


@keras.saving.register_keras_serializable("keras_finetune_tests")
class Clip(keras.layers.Layer):
    """Keeps in an attribute what its config does not say."""

    def __init__(self, most=0.0, **kwargs):
        super().__init__(**kwargs)
        self.most = most

    def call(self, inputs):
        return keras.ops.clip(inputs, -1.0, self.most)

    def get_config(self):
        return {**super().get_config(), "most": 0.0}


class OfAFunction(keras.layers.Layer):
    def __init__(self, function):
        super().__init__(name="of_a_function")
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


def key(below):
    """The key of a model that is `below`, frozen layers, and a head."""
    x = keras.Input((4,), name="x")
    layers = [keras.layers.Dense(4, name=name, trainable=False) for name in ("first", "second")]
    model = keras.Model(x, keras.layers.Dense(2, name="head")(below(x, *layers)))
    for layer in layers:
        layer.set_weights([np.eye(4), np.ones(4)])
    return prefix_key(find_cut(model), "rows")


@pytest.mark.parametrize(
    ("below", "other"),
    [
        (
            lambda x, first, second: second(first(keras.ops.clip(x, -1.0, 1.0))),
            lambda x, first, second: second(first(keras.ops.clip(x, -1.0, 2.0))),
        ),
        (
            lambda x, first, second: second(
                first(keras.ops.cast(keras.ops.equal(x, 0), "float32"))
            ),
            lambda x, first, second: second(
                first(keras.ops.cast(keras.ops.equal(x, 1), "float32"))
            ),
        ),
        (
            lambda x, first, second: second(first(x * np.float32([1, 1, 1, 1]))),
            lambda x, first, second: second(first(x * np.float32([1, 1, 1, 2]))),
        ),
        (
            lambda x, first, second: second(Clip(1.0, name="clip")(first(x))),
            lambda x, first, second: second(Clip(2.0, name="clip")(first(x))),
        ),
        (
            lambda x, first, second: second(Clip(np.float32([1] * 4), name="clip")(first(x))),
            lambda x, first, second: second(Clip(np.float32([2] * 4), name="clip")(first(x))),
        ),
        (
            lambda x, first, second: first(x) + second(first.output),
            lambda x, first, second: first(x) + second(x),
        ),
    ],
    ids=["setting", "argument", "array", "attribute", "array attribute", "wiring"],
)
def test_what_is_computed_decides(below, other):
    assert key(below) == key(below)
    assert key(below) != key(other)


def test_a_layer_that_does_not_say_what_it_computes():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            OfAFunction(lambda x: 2 * x),
            keras.layers.Dense(4, trainable=False),
            keras.layers.Dense(2),
        ]
    )
    assert "'of_a_function' has no get_config" in why_no_key(find_cut(model))
    without = keras.Sequential([keras.Input((4,)), *model.layers[1:]])
    assert why_no_key(find_cut(without)) is None
