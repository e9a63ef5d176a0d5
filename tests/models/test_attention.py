import keras
import numpy as np
import pytest

from keras_finetune.models import Attention


def numpy_of(x):
    return keras.ops.convert_to_numpy(x)


@pytest.fixture
def hidden():
    return np.random.default_rng(1).normal(size=(2, 6, 16)).astype("float32")


@pytest.mark.backends
def test_grouped_queries_equal_repeated_keys_and_values(hidden, random_weights):
    grouped = Attention(num_heads=4, num_kv_heads=2, causal=True, rope_theta=1e4)
    full = Attention(num_heads=4, causal=True, rope_theta=1e4)
    grouped.build(hidden.shape)
    full.build(hidden.shape)
    random_weights(grouped)
    for name in ("kernel", "bias"):
        fused = numpy_of(getattr(grouped.query_key_value, name))
        query, key, value = np.split(fused, [16, 24], axis=-1)
        repeated = [
            np.repeat(part.reshape(*part.shape[:-1], 2, 4), 2, axis=-2).reshape(
                *part.shape[:-1], 16
            )
            for part in (key, value)
        ]
        weight = np.concatenate([query, *repeated], axis=-1)
        getattr(full.query_key_value, name).assign(weight)
    full.projection.set_weights(grouped.projection.get_weights())
    np.testing.assert_allclose(numpy_of(grouped(hidden)), numpy_of(full(hidden)), atol=1e-5)


@pytest.mark.backends
def test_equals_keras_multi_head_attention(hidden, random_weights):
    ours = Attention(num_heads=4)
    ours.build(hidden.shape)
    random_weights(ours)
    theirs = keras.layers.MultiHeadAttention(num_heads=4, key_dim=4)
    theirs.build(hidden.shape, hidden.shape)
    kernels = np.split(numpy_of(ours.query_key_value.kernel), 3, axis=-1)
    biases = np.split(numpy_of(ours.query_key_value.bias), 3)
    weights = []
    for kernel, bias in zip(kernels, biases, strict=True):
        weights += [kernel.reshape(16, 4, 4), bias.reshape(4, 4)]
    kernel, bias = (numpy_of(weight) for weight in ours.projection.weights)
    theirs.set_weights([*weights, kernel.reshape(4, 4, 16), bias])
    mask = np.array([[True] * 6, [True] * 4 + [False] * 2])
    expected = theirs(hidden, hidden, attention_mask=mask[:, None, :])
    got = ours(hidden, padding_mask=mask)
    np.testing.assert_allclose(numpy_of(got)[mask], numpy_of(expected)[mask], atol=1e-5)


@pytest.mark.backends
def test_cross_attention_reads_the_other_sequence_and_skips_its_padding(hidden, random_weights):
    source = np.random.default_rng(2).normal(size=(2, 9, 12)).astype("float32")
    layer = Attention(num_heads=4, num_kv_heads=1, cross_attention=True)
    layer.build(hidden.shape, source.shape)
    random_weights(layer)
    mask = np.arange(9) < np.array([[9], [4]])
    expected = numpy_of(layer(hidden, mask, source))
    assert expected.shape == hidden.shape
    garbage = np.where(mask[:, :, None], source, 7.0).astype("float32")
    np.testing.assert_allclose(numpy_of(layer(hidden, mask, garbage)), expected, atol=1e-6)
    other = source + mask[:, :, None].astype("float32")
    assert np.abs(numpy_of(layer(hidden, mask, other)) - expected).max() > 0.01


@pytest.mark.backends
def test_causal_attention_never_sees_the_future(hidden, random_weights):
    layer = Attention(num_heads=2, causal=True)
    layer.build(hidden.shape)
    random_weights(layer)
    before = numpy_of(layer(hidden))
    changed = hidden.copy()
    changed[:, 4:] += 1.0
    after = numpy_of(layer(changed))
    np.testing.assert_allclose(after[:, :4], before[:, :4], atol=1e-6)
    assert np.abs(after[:, 4:] - before[:, 4:]).min() > 0


@pytest.mark.backends
def test_attention_dropout_is_off_outside_training(hidden):
    layer = Attention(num_heads=2, dropout=0.5)
    first, second = numpy_of(layer(hidden)), numpy_of(layer(hidden))
    np.testing.assert_array_equal(first, second)
    assert np.abs(numpy_of(layer(hidden, training=True)) - first).max() > 0


@pytest.mark.backends
def test_half_precision_is_near_float32(hidden, random_weights):
    exact = Attention(num_heads=2, causal=True, rope_theta=1e4)
    exact.build(hidden.shape)
    random_weights(exact)
    mask = np.arange(6) < np.array([[6], [2]])
    expected = numpy_of(exact(hidden, mask))
    for policy in ("mixed_float16", "mixed_bfloat16"):
        half = Attention(num_heads=2, causal=True, rope_theta=1e4, dtype=policy)
        half.build(hidden.shape)
        half.set_weights(exact.get_weights())
        got = numpy_of(keras.ops.cast(half(hidden, mask), "float32"))
        assert np.abs(got - expected)[mask].max() < 0.06 * np.abs(expected).max()


@pytest.mark.backends
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 0}, "num_heads must be an int of at least 1"),
        ({"num_heads": 4, "num_kv_heads": 3}, "num_kv_heads must divide num_heads"),
        ({"num_heads": 4, "dropout": 1.0}, "attention_dropout must be a number"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Attention(**arguments)


@pytest.mark.backends
def test_heads_must_divide_the_width(hidden):
    with pytest.raises(ValueError, match="hidden_dim=16, num_heads=3"):
        Attention(num_heads=3).build(hidden.shape)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="reads TensorFlow's graph")
def test_trap_10_the_fused_projection_is_split_not_sliced(hidden):
    """Indexing a fused tensor pads each gradient to the full width again; splitting does not."""
    import tensorflow as tf

    def gradient_ops(function, *variables):
        def step():
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.square(function(tf.constant(hidden))))
            return tape.gradient(loss, variables)

        return {op.type for op in tf.function(step).get_concrete_function().graph.get_operations()}

    kernel = tf.Variable(tf.random.normal((16, 48)))

    def sliced(x):
        fused = x @ kernel
        return fused[..., :16] * fused[..., 16:32] * fused[..., 32:]

    assert "StridedSliceGrad" in gradient_ops(sliced, kernel)

    layer = Attention(num_heads=4, num_kv_heads=2, causal=True, rope_theta=1e4)
    layer.build(hidden.shape)
    ops = gradient_ops(layer, *[weight.value for weight in layer.trainable_weights])
    assert "StridedSliceGrad" not in ops
    assert "SplitV" in ops
