import keras
import pytest

from keras_finetune import FineTuner
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
    for flag in (False, True):
        model.get_layer("block_0").trainable = flag
        compilation.prepare(None)
        model.fit(*data, verbose=0)
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


class Rows(keras.metrics.Metric):
    """How many rows were seen."""

    def __init__(self, name):
        super().__init__(name=name)
        self.rows = self.add_variable((), "zeros", name="rows")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.rows.assign(self.rows + keras.ops.cast(keras.ops.shape(y_pred)[0], "float32"))

    def result(self):
        return self.rows + 0.0


@pytest.mark.backends
def test_metrics_begin_anew_where_the_model_is_compiled_anew(model, data, loss):
    metrics = {"metrics": {"head_logits": [Rows("rows")]}, "weighted_metrics": [Rows("weighed")]}
    tuner = FineTuner(model)
    for freeze in (False, False, True):
        if freeze:
            tuner.freeze("block_0")
        else:
            tuner.compile("sgd", loss, **metrics)
        history = tuner.fit(*data, validation_data=data, verbose=0).history
        names = ("rows", "weighed", "val_rows", "val_weighed")
        assert [history[name] for name in names] == [[48]] * 4
    assert metrics["weighted_metrics"][0].result() == 48  # The user's object is the one in use.


def test_a_metric_that_makes_its_state_later_is_not_reset_before(model, data, loss):
    class Later(Rows):
        def __init__(self, name):
            keras.metrics.Metric.__init__(self, name=name)
            self.rows = None

        def update_state(self, y_true, y_pred, sample_weight=None):
            if self.rows is None:
                Rows.__init__(self, self.name)
            super().update_state(y_true, y_pred)

        def reset_state(self):
            self.rows.assign(0.0)

    tuner = FineTuner(model)
    tuner.compile("sgd", loss, metrics=[Later("rows")], run_eagerly=True)
    tuner.fit(*data, verbose=0)
    assert tuner.history["rows"] == [48]
