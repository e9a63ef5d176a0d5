"""Attention in one kernel gives what attention in steps gives."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_finetune.models import attention as attention_module
from keras_finetune.models import flash_attention as flash_module
from keras_finetune.models.attention import Attention
from keras_finetune.models.flash_attention import fits_flash_attention

LENGTH, WIDTH = 12, 16
MASKS = {
    "no mask": None,
    "padding": [[1] * 12, [1] * 7 + [0] * 5],
    "packed": [[1] * 5 + [6] * 7, [1] * 3 + [4] * 6 + [0] * 3],
}


@pytest.fixture
def in_one_kernel(monkeypatch):
    """Take the path of the kernel; where there is none, Keras has the same function in steps."""
    used = []

    def attend(*args, **kwargs):
        used.append(True)
        return flash_module.flash_attention(*args, **kwargs)

    def choose(yes):
        used.clear()
        monkeypatch.setattr(attention_module, "fits_flash_attention", lambda *_: yes)
        monkeypatch.setattr(attention_module, "flash_attention", attend)
        return used

    return choose


@pytest.mark.backends
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("causal", "num_kv_heads"), [(False, 4), (True, 4), (True, 2)])
def test_equals_attention_in_steps(in_one_kernel, mask, causal, num_kv_heads):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, LENGTH, WIDTH)).astype("float32")
    padding_mask = None if MASKS[mask] is None else np.array(MASKS[mask], np.int32)
    layer = Attention(4, num_kv_heads=num_kv_heads, causal=causal, rope_theta=10_000.0)
    found = []
    for yes in (True, False):
        used = in_one_kernel(yes)
        found.append(ops.convert_to_numpy(layer(x, padding_mask)))
        assert bool(used) is yes
    real = np.ones((2, LENGTH), bool) if padding_mask is None else padding_mask > 0
    assert np.abs(found[1]).max() > 0.1
    np.testing.assert_allclose(found[0][real], found[1][real], atol=2e-5)


@pytest.mark.backends
def test_from_one_sequence_to_another(in_one_kernel):
    rng = np.random.default_rng(0)
    x, source = (rng.normal(size=(2, n, WIDTH)).astype("float32") for n in (4, 6))
    mask = np.array([[1] * 6, [1] * 4 + [0] * 2], np.int32)
    layer = Attention(num_heads=4, cross_attention=True)
    found = []
    for yes in (True, False):
        used = in_one_kernel(yes)
        found.append(ops.convert_to_numpy(layer(x, mask, source)))
        assert bool(used) is yes
    assert np.abs(found[1]).max() > 0.1
    np.testing.assert_allclose(*found, atol=2e-5)


@pytest.mark.backends
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_row_without_tokens_is_averaged_as_in_steps(in_one_kernel, dtype):
    x = np.random.default_rng(0).normal(size=(2, LENGTH, WIDTH)).astype("float32")
    mask = np.array([[1] * LENGTH, [0] * LENGTH], np.int32)
    layer = Attention(num_heads=4, dtype=dtype)
    found = []
    for yes in (True, False):
        in_one_kernel(yes)
        found.append(ops.convert_to_numpy(ops.cast(layer(x, mask), "float32")))
    assert np.abs(found[1][1]).max() > 0.1
    np.testing.assert_allclose(*found, atol=0.02)


@pytest.mark.backends
def test_dropout_of_weights_is_not_in_the_kernel(in_one_kernel):
    used = in_one_kernel(True)
    layer = Attention(num_heads=4, dropout=0.5)
    x = np.ones((2, LENGTH, WIDTH), "float32")
    layer(x, training=True)
    assert not used
    layer(x, training=False)
    assert used


@pytest.mark.backends
def test_relative_positions_are_not_in_the_kernel(in_one_kernel):
    used = in_one_kernel(True)
    x = np.random.default_rng(0).normal(size=(2, LENGTH, WIDTH)).astype("float32")
    bias = np.zeros((1, 4, LENGTH, LENGTH), "float32")
    bias[..., 0] = 1e4
    layer = Attention(num_heads=4)
    found = ops.convert_to_numpy(layer(x, position_bias=bias))
    assert not used
    # All attend to the first token alone.
    np.testing.assert_allclose(found, np.repeat(found[:, :1], LENGTH, axis=1), atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="what fits there stands below")
def test_what_fits(monkeypatch):
    monkeypatch.setattr(flash_module, "has_flash_attention", lambda: True)

    def fits(head_dim=64, length=12, dtype="bfloat16"):
        x = ops.ones((1, 2, length, head_dim), dtype)
        return fits_flash_attention(x, x, x)

    assert fits()
    assert not fits(dtype="float32")
    assert not fits(length=11)
    assert not fits(head_dim=20)
    assert not fits(head_dim=256)
    varies = keras.KerasTensor((None, 2, None, 64), "bfloat16")
    assert not fits_flash_attention(varies, varies, varies)


@pytest.mark.backends
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="gradients matter only there")
def test_pytorch_has_it_where_nothing_is_learned():
    import torch

    x = ops.ones((1, 2, 3, 8))
    weight = torch.ones((1, 2, 3, 8), requires_grad=True)
    assert fits_flash_attention(x, x, x)
    assert not fits_flash_attention(x, x, weight)
    with torch.no_grad():
        assert fits_flash_attention(x, x, weight)
        assert not fits_flash_attention(x.half(), x.half(), weight.half())
        assert not fits_flash_attention(x.double(), x.double(), weight.double())
