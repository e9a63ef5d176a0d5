"""Blocks that are alike share a function, and no others do."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_finetune import models
from keras_finetune.generation.alike_blocks import AlikeBlocks
from keras_finetune.models.new_tokens import NewTokens

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="Others run each block as it is."
)


def block(seed, **changed):
    keras.utils.set_random_seed(seed)
    arguments = {"num_heads": 2, "intermediate_dim": 16, "causal": True, "norm": "rms"}
    made = models.TransformerBlock(**(arguments | changed))
    made.build((1, 1, 8))
    return made


def inputs(of, rows=3):
    rng = np.random.default_rng(0)
    x = keras.ops.convert_to_tensor(rng.normal(size=(rows, 1, 8)).astype("float32"))
    kept = keras.tree.map_structure(
        lambda x: x + rng.normal(size=x.shape).astype("float32"), of.start(rows, 6)
    )
    visible = keras.ops.convert_to_tensor(np.arange(6) < np.full((rows, 1, 1), 4))
    new = NewTokens(np.int32(3), np.full((rows, 1), 3, "int32"), visible, np.ones((rows, 1), bool))
    return x, kept, new


def assert_runs(blocks, *chain):
    x, kept, new = inputs(chain[0])
    found, to_write = blocks.run(chain, x, [kept] * len(chain), new)
    for number, of in enumerate(chain):
        x, made = of.step(x, kept, new)
        assert to_write[number].keys() == made.keys()
        for name, value in made.items():
            np.testing.assert_allclose(to_write[number][name], value, atol=1e-4)
    np.testing.assert_allclose(found, x, atol=1e-4)


@pytest.mark.parametrize("with_xla", [False, True])
@pytest.mark.parametrize(("count", "functions"), [(3, 1), (6, 1), (12, 1), (14, 2)])
def test_few_functions_run_all_with_their_own_weights(with_xla, count, functions):
    blocks = AlikeBlocks(with_xla=with_xla)
    assert_runs(blocks, *(block(seed) for seed in range(count)))
    counts = [x.experimental_get_tracing_count() for x in blocks._functions.values()]
    assert counts == [1] * functions


@pytest.mark.parametrize(
    "changed",
    [
        {"norm_first": True},
        {"activation": "relu"},
        {"rope_theta": 100.0},
        {"num_kv_heads": 1},
        {"use_bias": False},
    ],
)
def test_others_have_their_own(changed):
    blocks = AlikeBlocks(with_xla=False)
    assert_runs(blocks, block(0))
    assert_runs(blocks, block(0, **changed))
    assert len(blocks._functions) == 2


def test_quantized_blocks_are_not_like_plain_ones():
    blocks = AlikeBlocks(with_xla=False)
    quantized = block(0)
    quantized.feed_forward.up.quantize("int8")
    for of in (block(0), quantized, block(1)):
        assert_runs(blocks, of)
    assert len(blocks._functions) == 2


def with_lora(alpha):
    of = block(0)
    up = of.feed_forward.up
    up.enable_lora(2, lora_alpha=alpha)
    up.lora_kernel_b.assign(np.ones(up.lora_kernel_b.shape))
    return of


def quantized(**options):
    of = block(0)
    config = keras.quantizers.Int8QuantizationConfig(**options)
    of.feed_forward.up.quantize(config=config)
    return of


def with_activation(name):
    of = block(0)
    of.attention.projection.activation = keras.activations.get(name)
    return of


def with_epsilon(epsilon):
    of = block(0)
    of.feed_forward_norm.epsilon = epsilon
    return of


def normalized_first(norm_first):
    of = block(0)
    of.norm_first = norm_first
    return of


class Doubled(models.TransformerBlock):
    def step(self, inputs, kept, new):
        outputs, after = super().step(inputs, kept, new)
        return 2 * outputs, after


Doubled.__name__ = "TransformerBlock"


def of_class(kind):
    keras.utils.set_random_seed(0)
    of = kind(2, 16, causal=True)
    of.build((1, 1, 8))
    return of


@pytest.mark.parametrize(
    ("make", "one", "other"),
    [
        (with_lora, 2.0, 200.0),
        (lambda options: quantized(**options), {}, {"activation_quantizer": None}),
        (with_activation, "linear", "relu"),
        (with_epsilon, 1e-12, 1.0),
        (normalized_first, False, True),
        (of_class, models.TransformerBlock, Doubled),
    ],
    ids=["lora_alpha", "quantizer", "activation", "epsilon", "norm_first", "class"],
)
def test_blocks_with_other_settings_are_not_alike(make, one, other):
    blocks = AlikeBlocks(with_xla=False)
    for setting in (one, other, one):
        assert_runs(blocks, make(setting))
    assert len(blocks._functions) == 2


def test_a_block_that_runs_twice_is_not_like_two():
    blocks, twice = AlikeBlocks(with_xla=False), block(0)
    assert_runs(blocks, twice, twice)
    assert_runs(blocks, block(1), block(2))


def test_frozen_blocks_are_like_others():
    blocks = AlikeBlocks(with_xla=False)
    frozen = block(0)
    frozen.trainable = False
    assert_runs(blocks, frozen)
    assert_runs(blocks, block(1))
    assert len(blocks._functions) == 1


def test_transposed_values_stand_for_the_kernels():
    blocks, of = AlikeBlocks(with_xla=True), block(0)
    x, kept, new = inputs(of)
    expected, _ = of.step(x, kept, new)
    kernel = of.feed_forward.up.kernel
    transposed = {id(kernel): keras.ops.transpose(kernel.value)}
    kernel.assign(keras.ops.zeros_like(kernel))
    found, _ = replace(blocks, transposed=transposed).run([of], x, [kept], new)
    np.testing.assert_allclose(found, expected, atol=1e-5)
