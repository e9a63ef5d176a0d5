import keras
import numpy as np
import pytest

from keras_finetune import FineTuner
from keras_finetune.models import text_classifier, transformer_encoder
from keras_finetune.tuning import precision
from keras_finetune.tuning.precision import has_bfloat16, set_precision

pytestmark = pytest.mark.backends


def small():
    keras.utils.set_random_seed(0)
    backbone = transformer_encoder(50, num_layers=1, num_heads=2, hidden_dim=16, dropout=0.0)
    return text_classifier(backbone, 3, dropout=0.0)


IDS = np.random.default_rng(0).integers(1, 50, (32, 9)).astype("int32")
X = {"token_ids": IDS, "padding_mask": np.ones_like(IDS, bool)}
Y = IDS[:, 0] % 3
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def test_it_computes_in_bfloat16_and_answers_in_float32():
    model = small()
    exact = keras.ops.convert_to_numpy(model(X))
    assert set_precision(model, "mixed_bfloat16") == "mixed_bfloat16"
    block = keras.Model(model.inputs, model.get_layer("block_0").output)
    assert keras.backend.standardize_dtype(block(X).dtype) == "bfloat16"
    rounded = model(X)
    assert keras.backend.standardize_dtype(rounded.dtype) == "float32"
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    rounded = keras.ops.convert_to_numpy(rounded)
    assert 0 < np.abs(rounded - exact).max() < 0.1
    set_precision(model, "float32")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(X)), exact)


def test_it_trains_as_in_float32_and_can_change_between_fits():
    losses = {}
    for name in ("float32", "mixed_bfloat16"):
        tuner = FineTuner(small())
        tuner.compile("adam", LOSS, learning_rate=1e-2, precision=name)
        losses[name] = tuner.fit(X, Y, epochs=8, shuffle=False, verbose=0).history["loss"]
    assert losses["float32"][-1] < 0.7 * losses["float32"][0]
    np.testing.assert_allclose(losses["mixed_bfloat16"], losses["float32"], atol=0.1)
    assert losses["mixed_bfloat16"] != losses["float32"]
    tuner.compile("adam", LOSS, precision="float32")
    tuner.fit(X, Y, verbose=0)
    x = keras.Model(tuner.model.inputs, tuner.model.get_layer("block_0").output)(X)
    assert keras.backend.standardize_dtype(x.dtype) == "float32"


@pytest.mark.parametrize("there", [True, False])
def test_auto_asks_the_machine(monkeypatch, there):
    monkeypatch.setattr(precision, "has_bfloat16", lambda: there)
    assert set_precision(small(), "auto") == ("mixed_bfloat16" if there else "float32")


def test_the_machine_answers():
    assert has_bfloat16() in (True, False)


def test_saving_keeps_it(tmp_path):
    model = small()
    set_precision(model, "mixed_bfloat16")
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.get_layer("block_0").compute_dtype == "bfloat16"
    received, expected = (keras.ops.convert_to_numpy(m(X)) for m in (again, model))
    np.testing.assert_allclose(received, expected, atol=1e-2)


def test_a_wrong_name_is_refused():
    with pytest.raises(ValueError, match='Did you mean "mixed_bfloat16"'):
        set_precision(small(), "bfloat16_mixed")
