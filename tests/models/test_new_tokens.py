"""What new tokens bring along to layers."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_finetune.models.activation import silu
from keras_finetune.models.fused import without_xla
from keras_finetune.models.new_tokens import NewTokens, with_last_axes_swapped

pytestmark = pytest.mark.backends


def tokens(transposed):
    return NewTokens(slot=1, positions=None, visible=None, real=None, transposed=transposed)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_a_kernel_on_the_left_gives_the_same(use_bias, dtype):
    rng = np.random.default_rng(0)
    dense = keras.layers.Dense(6, use_bias=use_bias, bias_initializer="normal", dtype=dtype)
    x = rng.normal(size=(3, 1, 8)).astype("float32")
    expected = ops.convert_to_numpy(ops.cast(dense(x), "float32"))
    transposed = ops.cast(ops.transpose(dense.kernel), dense.compute_dtype)
    with without_xla():
        found = tokens({id(dense.kernel): transposed}).product(dense, ops.convert_to_tensor(x))
    assert keras.backend.standardize_dtype(found.dtype) == dense.compute_dtype
    found = ops.convert_to_numpy(ops.cast(found, "float32"))
    np.testing.assert_allclose(
        found, expected, rtol=1e-2, atol=1e-5 if dtype == "float32" else 0.02
    )


def test_only_kernels_of_plain_layers_are_on_the_left():
    x = ops.ones((2, 1, 4))
    activated, other = keras.layers.Dense(3, activation="relu"), keras.layers.Dense(3)
    for dense in (activated, other):
        dense.build(x.shape)
    wrong = {id(activated.kernel): None}  # Fails if it is read.
    np.testing.assert_allclose(
        ops.convert_to_numpy(tokens(wrong).product(activated, x)),
        ops.convert_to_numpy(activated(x)),
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(tokens(wrong).product(other, x)), ops.convert_to_numpy(other(x))
    )


def test_last_axes_are_swapped_with_and_without_a_compiler():
    x = np.arange(24.0).reshape(2, 4, 3)
    expected = x.swapaxes(-1, -2)
    np.testing.assert_array_equal(ops.convert_to_numpy(with_last_axes_swapped(x)), expected)
    with without_xla():
        found = with_last_axes_swapped(ops.convert_to_tensor(x))
    np.testing.assert_array_equal(ops.convert_to_numpy(found), expected)


def test_silu_is_the_same_with_and_without_a_compiler():
    x = np.linspace(-30, 30, 61, dtype="float32")[None]
    expected = x / (1 + np.exp(-x.astype("float64")))
    np.testing.assert_allclose(ops.convert_to_numpy(silu(x)), expected, atol=2e-6)
    with without_xla():
        found = silu(ops.convert_to_tensor(x))
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, atol=2e-6)
