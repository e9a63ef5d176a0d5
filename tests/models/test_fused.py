import re
from contextlib import nullcontext

import keras
import numpy as np
import pytest
from keras import ops

from keras_finetune.models import fused as module
from keras_finetune.models import text_classifier, transformer_encoder, without_xla
from keras_finetune.models.activation import gelu, gelu_approximate, silu
from keras_finetune.models.attention_weights import attention_weights
from keras_finetune.models.fused import add_and_norm, drop, fused, normalize
from keras_finetune.models.normalization import make_norm

pytestmark = pytest.mark.backends

RNG = np.random.default_rng(0)


def value_and_gradients(function, *arguments):
    """The value of a function of arrays, and the gradients of a weighted sum of it."""
    if keras.backend.backend() == "jax":
        import jax

        def weighted(*arguments):
            value = function(*arguments)
            size = ops.reshape(ops.arange(value.size), value.shape)
            return ops.sum(value * ops.cos(ops.cast(size, "float32"))), value

        arguments = [ops.convert_to_tensor(x) for x in arguments]
        (_, value), found = jax.value_and_grad(weighted, range(len(arguments)), has_aux=True)(
            *arguments
        )
        return [np.array(x) for x in (value, *found)]
    if keras.backend.backend() == "torch":
        import torch

        arguments = [torch.tensor(x, requires_grad=True) for x in arguments]
        value = function(*arguments)
        (value * torch.cos(torch.arange(value.numel()).reshape(value.shape))).sum().backward()
        return [x.detach().numpy() for x in (value, *(x.grad for x in arguments))]
    import tensorflow as tf

    arguments = [tf.convert_to_tensor(x) for x in arguments]
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        value = function(*arguments)
        size = tf.reshape(tf.range(tf.size(value)), tf.shape(value))
        weighted = tf.reduce_sum(value * tf.cos(tf.cast(size, "float32")))
    found = tape.gradient(weighted, arguments)
    return [x.numpy() for x in (value, *found)]


def assert_same(fast, plain, *arguments, atol=1e-5):
    received = value_and_gradients(fast, *arguments)
    expected = value_and_gradients(plain, *arguments)
    for one, other in zip(received, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=atol)


@pytest.mark.parametrize(
    ("fast", "plain"),
    [
        (gelu, lambda x: ops.gelu(x, approximate=False)),
        (gelu_approximate, lambda x: ops.gelu(x, approximate=True)),
        (silu, ops.silu),
    ],
)
def test_activations_are_those_of_keras(fast, plain):
    assert_same(fast, plain, RNG.normal(size=(3, 5, 16)).astype("float32") * 3)


@pytest.mark.parametrize("kind", ["layer", "rms", None])
def test_add_and_norm_is_its_layers(kind):
    dropout = keras.layers.Dropout(0.0)
    norm = None if kind is None else make_norm(kind, 1e-6, name="norm", dtype="float32")
    if norm is not None:
        norm.build((None, None, 16))
        norm.set_weights([RNG.normal(size=(16,)) for _ in norm.weights])
    arguments = [RNG.normal(size=(2, 5, 16)).astype("float32") for _ in range(2)]

    def plain(residual, x):
        return residual + x if norm is None else norm(residual + x)

    assert_same(lambda *x: add_and_norm(*x, dropout, norm, True), plain, *arguments)
    if norm is not None:
        assert_same(lambda x: normalize(norm, x), norm, arguments[0])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_weights_are_a_softmax(causal, masked):
    scores = RNG.normal(size=(2, 2, 3, 6, 6)).astype("float32")
    mask = np.array([[True] * 6, [True] * 4 + [False] * 2])
    allowed = np.ones((2, 1, 1, 6, 6), bool)
    allowed &= mask[:, None, None, None, :] if masked else True
    allowed &= np.tril(np.ones((6, 6), bool)) if causal else True

    def plain(scores):
        return ops.softmax(ops.where(allowed, scores * 0.5, -1e9))

    def fast(scores):
        return attention_weights(
            scores,
            ops.convert_to_tensor(mask) if masked else None,
            keras.layers.Dropout(0.1),
            scale=0.5,
            causal=causal,
            training=False,
        )

    assert_same(fast, plain, scores)


def test_dropout_keeps_its_share_and_its_mean():
    rate, x = 0.3, ops.ones((64, 32, 48))
    dropout = keras.layers.Dropout(rate, seed=1)
    zero = ops.zeros(x.shape)
    first, second = (
        ops.convert_to_numpy(add_and_norm(zero, x, dropout, None, True)) for _ in range(2)
    )
    for found in (first, second):
        np.testing.assert_allclose(np.unique(found), [0, 1 / (1 - rate)], rtol=1e-6)
        assert np.mean(found == 0) == pytest.approx(rate, abs=0.005)
        # Nothing repeats along any axis.
        for axis in range(3):
            rows = np.moveaxis(found == 0, axis, 0).reshape(x.shape[axis], -1)
            assert len(np.unique(rows, axis=0)) == len(rows)
            assert abs(np.corrcoef(rows[:-1].ravel(), rows[1:].ravel())[0, 1]) < 0.02
    assert np.mean((first == 0) & (second == 0)) == pytest.approx(rate**2, abs=0.005)


def test_dropout_is_the_same_forwards_and_backwards():
    dropout = keras.layers.Dropout(0.5, seed=3)
    x = RNG.normal(size=(4, 8, 16)).astype("float32")
    value, gradient = value_and_gradients(
        lambda x: add_and_norm(ops.zeros_like(x), x, dropout, None, True), x
    )
    weight = np.cos(np.arange(x.size, dtype="float32").reshape(x.shape))
    np.testing.assert_allclose(gradient, np.where(value == 0, 0, 2 * weight), rtol=1e-4, atol=1e-6)


def test_dropout_follows_its_seed():
    x = ops.ones((2, 8, 16))
    found = [
        ops.convert_to_numpy(
            add_and_norm(ops.zeros_like(x), x, keras.layers.Dropout(0.5, seed=seed), None, True)
        )
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


@pytest.mark.slow
def test_a_model_is_the_same_fused_and_plain(monkeypatch):
    """One block, forwards and backwards, with the kernels and without."""
    from keras_finetune.models.transformer_block import TransformerBlock

    x = RNG.normal(size=(2, 7, 16)).astype("float32")
    for settings in (
        {"norm_first": False},
        {"norm_first": True, "norm": "rms", "activation": "swiglu", "num_kv_heads": 2},
    ):
        block = TransformerBlock(4, 32, rope_theta=100.0, **settings)
        block.build(x.shape)
        fast = value_and_gradients(block, x)
        with monkeypatch.context() as patched:
            patched.setattr(module, "is_fusing", lambda: False)
            plain = value_and_gradients(block, x)
        for one, other in zip(fast, plain, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="nothing is fused elsewhere")
def test_plain_compiles_nothing_and_lasts_no_longer():
    import tensorflow as tf

    def compiled():
        made = fused(lambda x: x * 3.0)

        def count():
            graph = tf.function(made).get_concrete_function(tf.ones((2,))).graph
            return sum("PartitionedCall" in operation.type for operation in graph.get_operations())

        with module.without_xla():
            inside = count()
        return inside, count()

    assert compiled() == (0, 1)


def test_integers_get_no_gradient():
    shifted = fused(lambda x, number: x * ops.cast(number, x.dtype))
    x = np.ones((3,), "float32")
    value, gradient = value_and_gradients(lambda x: shifted(x, ops.convert_to_tensor(2)), x)
    np.testing.assert_allclose(value, [2, 2, 2])
    np.testing.assert_allclose(gradient, 2 * np.cos(np.arange(3)), rtol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="elsewhere it is Keras's layer")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pytorch_drops_what_the_rate_says(dtype):
    import torch

    x = torch.ones((100, 1_001), dtype=getattr(torch, dtype), requires_grad=True)
    y = drop(x, keras.layers.Dropout(0.3), training=True)
    (y * 3.0).sum().backward()
    assert y.dtype == x.dtype
    assert set(y.detach().float().unique().tolist()) <= {
        0.0,
        float(torch.tensor(1 / 0.7).to(x.dtype)),
    }
    dropped = (y == 0).float()
    # Four standard deviations; neighbours, which share a random number, are no likelier both gone.
    assert abs(float(dropped.mean()) - 0.3) < 4 * (0.21 / 100_100) ** 0.5
    pairs = float((dropped[:, 1:] * dropped[:, :-1]).mean())
    assert abs(pairs - 0.09) < 4 * (0.09 / 100_000) ** 0.5
    np.testing.assert_array_equal((x.grad == 0).numpy(), (y == 0).numpy())


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="elsewhere it is Keras's layer")
def test_pytorch_drops_the_same_after_the_same_seed():
    x = ops.ones((4, 50))
    found = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        found.append(ops.convert_to_numpy(drop(x, keras.layers.Dropout(0.5), training=True)))
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()
    own = [keras.layers.Dropout(0.5, seed=7) for _ in range(2)]
    one, other = (ops.convert_to_numpy(drop(x, layer, training=True)) for layer in own)
    np.testing.assert_array_equal(one, other)
    assert drop(x, own[0], training=False) is x
    nearly_all = ops.convert_to_numpy(drop(x, keras.layers.Dropout(0.999999), training=True))
    assert (nearly_all == 0).mean() > 0.9


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="others compute it in float32")
def test_pytorch_normalizes_float64_in_float64():
    norm = make_norm("layer", 1e-6, name="norm", dtype="float64")
    norm.build((None, 16))
    x = RNG.normal(size=(3, 16))
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    found = ops.convert_to_numpy(normalize(norm, ops.convert_to_tensor(x)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="kernels are TensorFlow's")
@pytest.mark.parametrize("fuses", [True, False])
def test_what_is_exported_plain_needs_no_compiler(fuses, tmp_path):
    import tensorflow as tf

    model = text_classifier(transformer_encoder(20, 1, 2, 8, max_length=8), 2)
    with nullcontext() if fuses else without_xla():
        model.export(tmp_path / "model", verbose=False)
    exported = tf.saved_model.load(tmp_path / "model")
    graph = str(exported.signatures["serving_default"].graph.as_graph_def())
    assert bool(re.search(r'"_XlaMustCompile"\s+value \{\s+b: true', graph)) is fuses
