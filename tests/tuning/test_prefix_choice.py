import keras
import numpy as np
import pytest

from keras_finetune import FineTuner
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
