import keras
import pytest

from keras_finetune.tuning.recipe import make_recipe


def test_by_name_leaves_biases_out_of_weight_decay(model):
    recipe = make_recipe("adamw", 0.5, compile_args={})
    optimizer = recipe.make_optimizer(model)
    before = {v.path: keras.ops.convert_to_numpy(v).copy() for v in model.trainable_variables}
    for variable in model.trainable_variables:
        variable.assign(variable + 1.0)
    zeros = [keras.ops.zeros(v.shape) for v in model.trainable_variables]
    optimizer.apply(zeros, model.trainable_variables)
    moved = {
        v.path
        for v in model.trainable_variables
        if (abs(keras.ops.convert_to_numpy(v) - before[v.path] - 1.0) > 1e-6).any()
    }
    assert "head_logits/kernel" in moved
    assert not any(path.endswith("bias") for path in moved)


def test_an_instance_is_copied_with_its_settings(model):
    given = keras.optimizers.AdamW(0.01, weight_decay=0.3, beta_1=0.8, global_clipnorm=1.0)
    made = make_recipe(given, None, compile_args={}).make_optimizer(model)
    assert made is not given
    assert not given.built
    assert (made.beta_1, made.weight_decay, made.global_clipnorm) == (0.8, 0.3, 1.0)
    assert float(made.learning_rate) == pytest.approx(0.01)


@pytest.mark.parametrize("rate", [None, 0.02, {"head": 0.02, "*": 0.01}], ids=str)
def test_what_scales_the_loss_is_left_to_keras(model, rate):
    given = keras.optimizers.LossScaleOptimizer(keras.optimizers.AdamW(0.02, beta_1=0.8))
    made = make_recipe(given, rate, compile_args={}).make_optimizer(model)
    assert not isinstance(made, keras.optimizers.LossScaleOptimizer)
    assert float(made.learning_rate) == pytest.approx(0.02)
    assert getattr(made, "members", [made])[0].beta_1 == 0.8


def test_every_optimizer_of_keras_by_name(model):
    names = [
        name
        for name, value in vars(keras.optimizers).items()
        if isinstance(value, type)
        and issubclass(value, keras.optimizers.Optimizer)
        and name not in ("Optimizer", "LossScaleOptimizer", "MultiOptimizer")
    ]
    assert len(names) > 10
    for name in names:
        made = make_recipe(name.lower(), 0.01, compile_args={}).make_optimizer(model)
        assert type(made).__name__ == name


def test_contradiction():
    cosine = keras.optimizers.schedules.CosineDecay(0.1, 10)
    with pytest.raises(ValueError, match="say two things"):
        make_recipe("adam", cosine, schedule="linear", compile_args={})


def test_warmup_alone_is_constant_afterwards():
    assert make_recipe("adam", 0.1, warmup=0.1, compile_args={}).schedule == "constant"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's strategies")
def test_an_instance_of_a_strategy_keeps_its_rate():
    tf = pytest.importorskip("tensorflow")
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        recipe = make_recipe(keras.optimizers.SGD(0.25), None, compile_args={})
    assert recipe.learning_rate == 0.25
