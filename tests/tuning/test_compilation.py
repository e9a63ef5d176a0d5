import keras
import pytest

from keras_finetune.tuning.compilation import Compilation, compiled_with
from keras_finetune.tuning.recipe import make_recipe


def test_recompiles_only_where_something_changed(model, loss):
    compilation = Compilation(model)
    compilation.recipe = make_recipe("adam", 0.1, compile_args={"loss": loss})
    compilation.prepare(None)
    first = model.optimizer
    compilation.prepare(None)
    assert model.optimizer is first
    model.get_layer("block_0").trainable = False
    compilation.prepare(None)
    assert model.optimizer is not first


def test_a_schedule_needs_the_number_of_steps(model, loss):
    compilation = Compilation(model)
    compilation.recipe = make_recipe("adam", 0.1, schedule="linear", compile_args={"loss": loss})
    with pytest.raises(ValueError, match="steps_per_epoch"):
        compilation.prepare(None)


def test_compile_arguments_of_the_model(model):
    assert compiled_with(model) == {}
    model.compile("adam", "mse", metrics=["mae"], steps_per_execution=2)
    found = compiled_with(model)
    assert (found["loss"], found["metrics"], found["steps_per_execution"]) == ("mse", ["mae"], 2)


def test_loss_scaling_is_carried_through(data, loss, make_classifier):
    keras.config.set_dtype_policy("mixed_float16")
    model = make_classifier()
    compilation = Compilation(model)
    compilation.recipe = make_recipe("adam", 0.01, compile_args={"loss": loss})
    for flag in (True, False, True):
        model.get_layer("block_0").trainable = flag
        compilation.prepare(None)
        model.fit(*data, verbose=0)
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
