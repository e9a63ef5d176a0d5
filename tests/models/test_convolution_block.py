import keras
import numpy as np
import pytest

from keras_finetune.models import ConvolutionBlock

pytestmark = pytest.mark.backends


@pytest.fixture
def hidden():
    return np.random.default_rng(0).normal(size=(2, 6, 4)).astype("float32")


def test_equals_a_sum_over_windows(hidden, random_weights):
    block = ConvolutionBlock(5, kernel_sizes=(3, 4))
    block.build(hidden.shape)
    random_weights(block)
    assert [layer.filters for layer in block.convolutions] == [3, 2]
    mask = np.arange(6) < np.array([[6], [3]])
    got = keras.ops.convert_to_numpy(block(hidden, padding_mask=mask))
    zeroed = np.where(mask[:, :, None], hidden, 0)
    expected = []
    for size, layer in zip((3, 4), block.convolutions, strict=True):
        kernel, bias = (keras.ops.convert_to_numpy(weight) for weight in layer.weights)
        padded = np.pad(zeroed, ((0, 0), ((size - 1) // 2, size // 2), (0, 0)))
        windows = [
            np.einsum("bkc,kcf->bf", padded[:, start : start + size], kernel) + bias
            for start in range(6)
        ]
        expected.append(np.stack(windows, axis=1))
    expected = np.maximum(np.concatenate(expected, axis=-1), 0)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_sequences_may_be_shorter_than_the_kernel(hidden):
    block = ConvolutionBlock(6, kernel_sizes=(5, 7))
    assert tuple(block(hidden[:, :1]).shape) == (2, 1, 6)
    assert tuple(block(hidden[:, :2]).shape) == (2, 2, 6)


def test_residual_adds_the_inputs(hidden, random_weights):
    plain, residual = ConvolutionBlock(4), ConvolutionBlock(4, residual=True)
    for block in (plain, residual):
        block.build(hidden.shape)
        random_weights(block)
    difference = residual(hidden) - plain(hidden)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(difference), hidden, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": 2, "kernel_sizes": (2, 3, 4)}, "at least one filter for each"),
        ({"filters": 2, "kernel_sizes": ()}, "at least one size"),
        ({"filters": 4, "kernel_sizes": (0,)}, "kernel_sizes must be an int of at least 1"),
        ({"filters": 4, "activation": "swiglu"}, "no gated activation"),
        ({"filters": 4, "activation": "rellu"}, 'Did you mean "relu"'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConvolutionBlock(**arguments)


def test_a_residual_needs_equal_widths(hidden):
    with pytest.raises(ValueError, match="inputs of width 4, filters=6"):
        ConvolutionBlock(6, residual=True).build(hidden.shape)
