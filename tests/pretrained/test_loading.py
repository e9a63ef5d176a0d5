"""What `load_pretrained` makes of a directory."""

import gc

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import keras_finetune as kft

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def directory(make_theirs, tmp_path):
    make_theirs("bert", "ForSequenceClassification").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_old_names_of_scales(directory, tmp_path):
    before = kft.load_pretrained(directory)

    def rename(tensors):
        for name in [name for name in tensors if "LayerNorm" in name]:
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            tensors[old.replace("LayerNorm.bias", "LayerNorm.beta")] = tensors.pop(name)

    tensors = load_file(directory / "model.safetensors")
    rename(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    after = kft.load_pretrained(directory)
    for one, other in zip(before.weights, after.weights, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (one, other)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "mixed_bfloat16"])
def test_dtype(directory, dtype):
    model = kft.load_pretrained(directory, head=True, dtype=dtype)
    stored = {keras.backend.standardize_dtype(weight.dtype) for weight in model.weights}
    # Logits are computed in float32.
    assert stored == ({"float32"} if "mixed" in dtype else {dtype, "float32"})
    assert model.get_layer("block_0").compute_dtype == dtype.removeprefix("mixed_")
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.usefixtures("unfrozen")
def test_quantize(directory, batch, monkeypatch):
    frozen = []
    monkeypatch.setattr(gc, "collect", lambda *args: frozen.append(gc.get_freeze_count()))
    plain = kft.load_pretrained(directory)
    inputs = batch(segments=2)
    expected = keras.ops.convert_to_numpy(plain(inputs))
    for kind, error in (("int8", 0.05), ("int4", 0.6)):
        quantized = kft.load_pretrained(directory, quantize=kind)
        layer = quantized.get_layer("block_0").feed_forward.up
        assert kind in layer.dtype_policy.name
        got = keras.ops.convert_to_numpy(quantized(inputs))
        found = np.abs(got - expected)[inputs["padding_mask"]].mean()
        assert 0 < found < error, (kind, found)
    assert min(frozen) > 0  # Keras collects garbage for each weight, of few objects.


def test_arguments_of_a_wrong_kind(tmp_path):
    with pytest.raises(ValueError, match=r"path must be a path, a str or .* Received: None\.$"):
        kft.load_pretrained(None)
    with pytest.raises(ValueError, match=r"head must be True or False\. .*'classification'"):
        kft.load_pretrained(tmp_path, head="classification")
