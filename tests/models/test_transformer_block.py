"""The block against plain numpy, written out as the papers and reference codes of each family."""

import math

import keras
import numpy as np
import pytest

from keras_finetune.models import TransformerBlock

pytestmark = pytest.mark.backends

LENGTHS = np.array([[7], [4]])
MASK = np.arange(7) < LENGTHS


@pytest.fixture
def hidden():
    return np.random.default_rng(3).normal(size=(2, 7, 16)).astype("float32")


def weights_of(layer):
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in layer.weights}


class Weights:
    """The weights of a block by the ends of their paths."""

    def __init__(self, block):
        self.by_path = weights_of(block)

    def __call__(self, ending):
        (found,) = [value for path, value in self.by_path.items() if path.endswith(ending)]
        return found.astype("float64")


def layer_norm(x, w, name, epsilon):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * w(f"{name}/gamma") + w(f"{name}/beta")


def rms_norm(x, scale, epsilon):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * scale


def softmax_rows(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def attend(query, key, value, lengths, causal):
    """One query of one head at a time: (batch, length, heads, head_dim), heads of equal number."""
    out = np.zeros_like(query)
    batch, length, heads, head_dim = query.shape
    for b in range(batch):
        for h in range(heads):
            for i in range(length):
                end = min(i + 1, lengths[b, 0]) if causal else lengths[b, 0]
                scores = key[b, :end, h] @ query[b, i, h] / math.sqrt(head_dim)
                out[b, i, h] = softmax_rows(scores) @ value[b, :end, h]
    return out.reshape(batch, length, heads * head_dim)


def erf_gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def tanh_gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def self_attention(x, w, causal):
    fused = x @ w("query_key_value/kernel") + w("query_key_value/bias")
    heads = [part.reshape(*part.shape[:2], 4, 4) for part in np.split(fused, 3, axis=-1)]
    attended = attend(*heads, LENGTHS, causal)
    return attended @ w("/attention/output/kernel") + w("/attention/output/bias")


def feed_forward(x, w, activation):
    up = activation(x @ w("up/kernel") + w("up/bias"))
    return up @ w("down/kernel") + w("down/bias")


def run(block, hidden):
    return keras.ops.convert_to_numpy(block(hidden, padding_mask=MASK))


def test_bert(hidden, random_weights):
    block = TransformerBlock(4, 32, norm_epsilon=1e-12)
    block.build(hidden.shape)
    random_weights(block)
    w = Weights(block)
    x = hidden.astype("float64")
    x = layer_norm(x + self_attention(x, w, causal=False), w, "attention_norm", 1e-12)
    x = layer_norm(x + feed_forward(x, w, erf_gelu), w, "feed_forward_norm", 1e-12)
    np.testing.assert_allclose(run(block, hidden)[MASK], x[MASK], rtol=0, atol=2e-5)


def test_gpt2(hidden, random_weights):
    block = TransformerBlock(
        4, 32, norm_first=True, norm_epsilon=1e-5, activation="gelu_approximate", causal=True
    )
    block.build(hidden.shape)
    random_weights(block)
    w = Weights(block)
    x = hidden.astype("float64")
    x = x + self_attention(layer_norm(x, w, "attention_norm", 1e-5), w, causal=True)
    x = x + feed_forward(layer_norm(x, w, "feed_forward_norm", 1e-5), w, tanh_gelu)
    np.testing.assert_allclose(run(block, hidden)[MASK], x[MASK], rtol=0, atol=1e-4)


def turned(heads, theta):
    """Rotary positions as products of complex numbers."""
    half = heads.shape[-1] // 2
    angles = np.arange(heads.shape[1])[:, None] * theta ** (-np.arange(half) / half)
    pairs = (heads[..., :half] + 1j * heads[..., half:]) * np.exp(1j * angles)[:, None, :]
    return np.concatenate([pairs.real, pairs.imag], axis=-1)


@pytest.mark.parametrize(
    ("qkv_bias", "qk_norm", "head_dim"),
    [(False, False, 4), (True, False, 4), (False, True, 8)],
    ids=["llama", "qwen2", "qwen3"],
)
def test_llama_and_qwen(hidden, random_weights, qkv_bias, qk_norm, head_dim):
    block = TransformerBlock(
        4,
        24,
        num_kv_heads=2,
        head_dim=head_dim,
        norm="rms",
        norm_first=True,
        norm_epsilon=1e-6,
        activation="swiglu",
        use_bias=False,
        qkv_bias=qkv_bias,
        qk_norm=qk_norm,
        causal=True,
        rope_theta=10000.0,
    )
    block.build(hidden.shape)
    random_weights(block)
    biases = [path for path in weights_of(block) if path.endswith("bias")]
    assert len(biases) == qkv_bias
    w = Weights(block)
    x = hidden.astype("float64")
    normal = rms_norm(x, w("attention_norm/scale"), 1e-6)
    fused = normal @ w("query_key_value/kernel")
    if qkv_bias:
        fused = fused + w("query_key_value/bias")
    query, key, value = (
        part.reshape(2, 7, -1, head_dim)
        for part in np.split(fused, [4 * head_dim, 6 * head_dim], axis=-1)
    )
    if qk_norm:
        query = rms_norm(query, w("query_norm/scale"), 1e-6)
        key = rms_norm(key, w("key_norm/scale"), 1e-6)
    query, key = turned(query, 10000.0), turned(key, 10000.0)
    key, value = np.repeat(key, 2, axis=2), np.repeat(value, 2, axis=2)
    x = x + attend(query, key, value, LENGTHS, causal=True) @ w("/attention/output/kernel")
    normal = rms_norm(x, w("feed_forward_norm/scale"), 1e-6)
    gate = normal @ w("gate/kernel")
    gated = gate / (1 + np.exp(-gate)) * (normal @ w("up/kernel"))
    x = x + gated @ w("down/kernel")
    np.testing.assert_allclose(run(block, hidden)[MASK], x[MASK], rtol=0, atol=1e-4)


def test_config_makes_the_same_block_again(hidden, random_weights):
    block = TransformerBlock(
        4,
        24,
        num_kv_heads=2,
        norm="rms",
        norm_first=True,
        activation="swiglu",
        causal=True,
        cross_attention=True,
        rope_theta=500.0,
        rope_scaling={"rope_type": "linear", "factor": 2.0},
        dropout=0.1,
        attention_dropout=0.2,
    )
    again = TransformerBlock.from_config(block.get_config())
    for layer in (block, again):
        layer.build(hidden.shape, hidden.shape)
    random_weights(block)
    again.set_weights(block.get_weights())
    assert again.get_config() == block.get_config()
    inputs = {"padding_mask": MASK, "encoder_output": hidden, "encoder_padding_mask": MASK}
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(block(hidden, **inputs)),
        keras.ops.convert_to_numpy(again(hidden, **inputs)),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "rsm"}, r'norm must be one of "layer", "rms".*Did you mean "rms"'),
        ({"activation": "geluu"}, r'Did you mean "gelu"'),
        ({"dropout": 1.5}, "dropout must be a number from 0"),
        ({"intermediate_dim": 0}, "intermediate_dim must be an int of at least 1"),
        ({"norm_epsilon": 0.0}, "norm_epsilon must be a number above 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        TransformerBlock(**{"num_heads": 2, "intermediate_dim": 8, **arguments})
