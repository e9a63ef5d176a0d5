import keras
import numpy as np
import pytest

from keras_finetune.tuning import FineTuner, GroupedOptimizer

pytestmark = pytest.mark.backends


def two_variables():
    return keras.Variable([1.0, 2.0], name="a"), keras.Variable([3.0, 4.0], name="b")


def gradients():
    convert = keras.ops.convert_to_tensor
    return [convert(np.float32([0.5, -1.0])), convert(np.float32([2.0, 0.1]))]


def values(*variables):
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


METHODS = {
    "sgd": lambda **k: keras.optimizers.SGD(0.1, momentum=0.9, **k),
    "adam": lambda **k: keras.optimizers.Adam(0.1, **k),
    "adamw": lambda **k: keras.optimizers.AdamW(0.1, weight_decay=0.1, **k),
    "lion": lambda **k: keras.optimizers.Lion(0.1, **k),
    "adafactor": lambda **k: keras.optimizers.Adafactor(0.1, **k),
    "nadam": lambda **k: keras.optimizers.Nadam(0.1, **k),
    "ema": lambda **k: keras.optimizers.Adam(
        0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2, **k
    ),
    "accumulating": lambda **k: keras.optimizers.Adam(0.1, gradient_accumulation_steps=2, **k),
    "clipping": lambda **k: keras.optimizers.Adam(0.1, global_clipnorm=0.5, **k),
}


@pytest.mark.parametrize("name", METHODS)
def test_groups_of_equal_rate_are_the_plain_optimizer(name):
    plain, grouped = two_variables(), two_variables()
    reference = METHODS[name]()
    optimizer = GroupedOptimizer(METHODS[name](), [{"indices": [0]}, {"indices": [1]}])
    for _ in range(4):
        reference.apply(gradients(), list(plain))
        optimizer.apply(gradients(), list(grouped))
    for expected, received in zip(values(*plain), values(*grouped), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-6)


def test_each_group_follows_by_its_factor():
    alone, grouped = two_variables(), two_variables()
    optimizer = GroupedOptimizer(
        keras.optimizers.Adam(0.1), [{"indices": [0]}, {"indices": [1], "scale": 0.25}]
    )
    slow = keras.optimizers.Adam(0.025)
    for _ in range(3):
        optimizer.apply(gradients(), list(grouped))
        slow.apply(gradients()[1:], [alone[1]])
    np.testing.assert_allclose(*values(grouped[1], alone[1]), rtol=1e-6)


def test_setting_the_learning_rate_moves_every_group():
    variables = two_variables()
    optimizer = GroupedOptimizer(
        keras.optimizers.SGD(1.0), [{"indices": [0]}, {"indices": [1], "scale": 0.5}]
    )
    optimizer.learning_rate = 0.1
    optimizer.apply(gradients(), list(variables))
    np.testing.assert_allclose(values(variables[0])[0], [0.95, 2.1], rtol=1e-6)
    np.testing.assert_allclose(values(variables[1])[0], [2.9, 3.995], rtol=1e-6)


def test_a_schedule_is_followed_by_every_group():
    variables = two_variables()
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [1.0, 0.0])
    optimizer = GroupedOptimizer(
        keras.optimizers.SGD(schedule), [{"indices": [0]}, {"indices": [1], "scale": 0.5}]
    )
    for _ in range(4):
        optimizer.apply(gradients(), list(variables))
    np.testing.assert_allclose(values(variables[0])[0], [0.0, 4.0], atol=1e-6)
    np.testing.assert_allclose(values(variables[1])[0], [1.0, 3.9], atol=1e-6)


def test_round_trip_through_config():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    optimizer = GroupedOptimizer(
        keras.optimizers.AdamW(schedule, weight_decay=0.2),
        [{"indices": [1], "scale": 0.5}, {"indices": [0]}],
    )
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is GroupedOptimizer
    assert again.get_config() == optimizer.get_config()


def test_groups_must_cover_the_variables():
    optimizer = GroupedOptimizer(keras.optimizers.SGD(), [{"indices": [0]}])
    with pytest.raises(ValueError, match="each of the 2 variables once"):
        optimizer.build(list(two_variables()))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's checkpoints")
@pytest.mark.parametrize("rates", [{"first": 1e-3, "*": 1e-2}, "schedule"], ids=str)
def test_a_tuned_model_is_saved_by_tensorflow(rates, tmp_path):
    import tensorflow as tf

    if rates == "schedule":
        rates = keras.optimizers.schedules.CosineDecay(1e-2, 10)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="first")])
    model.add(keras.layers.Dense(1, name="second"))
    tuner = FineTuner(model)
    tuner.compile("adamw", learning_rate=rates, loss="mse")
    x = np.ones((8, 4), "float32")
    tuner.fit(x, x[:, :1], verbose=0)
    path = tf.train.Checkpoint(model).save(tmp_path / "checkpoint")
    before = model.get_weights()
    model.set_weights([0 * weight for weight in before])
    tf.train.Checkpoint(model).restore(path)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    model.export(tmp_path / "exported", verbose=False)
