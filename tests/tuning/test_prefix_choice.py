import keras
import numpy as np
import pytest

from keras_finetune import FineTuner, Stage
from keras_finetune.models import fused
from keras_finetune.tuning import prefix_choice
from keras_finetune.tuning.prefix_cache import PrefixCache


@pytest.mark.parametrize("worth_it", [False, True])
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="nothing is fused elsewhere")
def test_kernels_are_compiled_for_many_tokens_only(worth_it, monkeypatch):
    if worth_it:
        monkeypatch.setattr(prefix_choice, "_WORTH_COMPILING", 1)
    seen, serve = [], PrefixCache.dataset

    def spied(*args, **kwargs):
        seen.append(fused.is_fusing())
        return serve(*args, **kwargs)

    monkeypatch.setattr(PrefixCache, "dataset", spied)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    x = np.ones((8, 4), "float32")
    FineTuner(model).fit(x, x[:, :1], epochs=2, cache_frozen=True, verbose=0)
    assert seen == [worth_it]
    assert fused.is_fusing()


class LooksAtItsInputs(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.mean((y - y_pred) ** 2) + 0.0 * keras.ops.mean(x["features"])


class MeasuresItsInputs(keras.Model):
    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        metrics = super().compute_metrics(x, y, y_pred, sample_weight)
        return metrics | {"mean": keras.ops.mean(x["features"])}


def frozen_below(model_class):
    features = keras.Input((4,), name="features")
    hidden = keras.layers.Dense(3, name="low", trainable=False)(features)
    model = model_class({"features": features}, keras.layers.Dense(1, name="head")(hidden))
    model.compile("sgd", "mse")
    return model


DATA = {"features": np.ones((8, 4), "float32")}, np.ones((8, 1), "float32")


@pytest.mark.backends
@pytest.mark.parametrize("model_class", [LooksAtItsInputs, MeasuresItsInputs])
def test_a_model_that_looks_at_its_inputs_keeps_them(model_class, monkeypatch, capsys):
    monkeypatch.setattr(prefix_choice, "_LEAST_SAVED", 1)
    tuner = FineTuner(frozen_below(model_class))
    for call in (tuner.fit, tuner.estimate):
        with pytest.raises(ValueError, match=r"the model has a compute_\w+ of its own"):
            call(*DATA, epochs=2, cache_frozen=True, verbose=0)
    tuner.fit(*DATA, epochs=2, verbose=2)
    assert "run in every epoch: the model has a compute_" in capsys.readouterr().err
    assert len(tuner.history["loss"]) == 2


def test_stages_are_cached_where_layers_are_frozen():
    tuner = FineTuner(frozen_below(keras.Model))
    stages = [Stage("head", ("head",)), Stage("all", ("head", "low"))]
    estimate = tuner.estimate(*DATA, stages=stages, cache_frozen=True)
    assert [stage.cache_gb > 0 for stage in estimate.stages] == [True, False]
    tuner.fit_stages(stages, *DATA, cache_frozen=True, verbose=0)
    assert len(tuner.history["loss"]) == 2
