import math

import keras
import numpy as np
import pytest

from keras_finetune.models.rotary import inverse_frequencies, rotary_angles, rotate

pytestmark = pytest.mark.backends


def test_rotation_is_that_of_complex_numbers():
    """A pair (i, i + half) is a complex number, turned by position * theta ** (-2i / width)."""
    heads = np.random.default_rng(0).normal(size=(2, 3, 7, 8)).astype("float32")
    angles = rotary_angles(np.arange(7), inverse_frequencies(8, theta=100.0), "float32")
    got = keras.ops.convert_to_numpy(rotate(keras.ops.convert_to_tensor(heads), angles))
    pairs = heads[..., :4] + 1j * heads[..., 4:]
    for position in range(7):
        for pair in range(4):
            turn = np.exp(1j * position * 100.0 ** (-2 * pair / 8))
            expected = pairs[:, :, position, pair] * turn
            np.testing.assert_allclose(got[:, :, position, pair], expected.real, atol=1e-5)
            np.testing.assert_allclose(got[:, :, position, pair + 4], expected.imag, atol=1e-5)


def test_products_depend_on_the_distance_only():
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(2, 16)).astype("float32")
    angles = rotary_angles(np.arange(20), inverse_frequencies(16), "float32")
    repeated = [np.broadcast_to(vector, (1, 1, 20, 16)) for vector in (query, key)]
    turned = [
        keras.ops.convert_to_numpy(rotate(keras.ops.convert_to_tensor(x), angles))[0, 0]
        for x in repeated
    ]
    products = turned[0] @ turned[1].T
    np.testing.assert_allclose(np.diag(products, 3), products[3 - 3, 3], rtol=0, atol=1e-4)


def test_linear_scaling_stretches_positions():
    scaled = inverse_frequencies(8, scaling={"rope_type": "linear", "factor": 4.0})
    np.testing.assert_allclose(scaled, inverse_frequencies(8) / 4, rtol=1e-6)


def test_llama3_scaling_wave_by_wave():
    """Written out as in the Llama 3.1 reference code, one frequency at a time."""
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    expected = []
    for frequency in inverse_frequencies(128, theta=500000.0).astype("float64"):
        wavelength = 2 * math.pi / frequency
        if wavelength < 8192 / 4.0:
            expected.append(frequency)
        elif wavelength > 8192 / 1.0:
            expected.append(frequency / 8.0)
        else:
            smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
            expected.append((1 - smooth) * frequency / 8.0 + smooth * frequency)
    got = inverse_frequencies(128, theta=500000.0, scaling=scaling)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_bad_arguments():
    with pytest.raises(ValueError, match="even head_dim"):
        inverse_frequencies(7)
    with pytest.raises(ValueError, match=r'Did you mean "linear"'):
        inverse_frequencies(8, scaling={"rope_type": "liner", "factor": 2.0})
    with pytest.raises(ValueError, match=r"lacks \['factor'\]"):
        inverse_frequencies(8, scaling={"rope_type": "linear"})
    for theta in (0, -1.0, math.inf, "10000"):
        with pytest.raises(ValueError, match="rope_theta must be a number above 0"):
            inverse_frequencies(8, theta=theta)
    with pytest.raises(ValueError, match="rope_scaling's factor must be a number above 0"):
        inverse_frequencies(8, scaling={"rope_type": "linear", "factor": 0})
