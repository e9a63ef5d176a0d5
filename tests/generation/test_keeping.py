"""What is kept changes no logits; where that is not known, all is computed again."""

import copy

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_finetune.generation.keeping import can_keep
from keras_finetune.generation.prompts import decoder_of
from keras_finetune.models import (
    Attention,
    PositionEmbedding,
    RecurrentBlock,
    RelativePositionBias,
    TransformerBlock,
)

VOCAB, WIDTH = 30, 8
ROWS = np.array([[5, 6, 7, 8], [9, 10, 0, 0]], "int32")
LENGTHS = np.array([4, 2])
NEXT = np.array([[11, 12, 13], [14, 15, 16]], "int32")


class Inputs(dict):
    """Symbols of token ids and padding masks, by name, and what they become."""

    def __init__(self, *prefixes):
        names = [prefix + name for prefix in prefixes for name in ("token_ids", "padding_mask")]
        super().__init__({n: keras.Input((None,), dtype="int32", name=n) for n in names})

    def embedded(self, prefix=""):
        return layers.Embedding(VOCAB, WIDTH)(self[prefix + "token_ids"])


def block(name=None, kind=TransformerBlock, **options):
    options = {"causal": True, "norm_first": True, "rope_theta": 1e4, **options}
    return kind(2, 16, name=name, **options)


def model_of(inputs, features, *, head=True):
    logits = layers.Dense(VOCAB, name="head_logits")(features) if head else features
    model = keras.Model(dict(inputs), logits)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.5, variable.shape) + (variable.name in ("gamma", "scale")))
    return model


def assert_right(model, *, kept):
    """Compare a decoder's logits with those of the model, row by row."""
    assert can_keep(model) is kept
    mask = np.arange(4) < LENGTHS[:, None]
    source, rows, lengths = {}, ROWS, LENGTHS
    if "decoder_token_ids" in model.input:
        source = {"token_ids": ROWS, "padding_mask": mask.astype("int32")}
        rows, lengths, mask = ROWS[:, :1], np.array([1, 1]), np.ones((2, 1), bool)
    decoder = copy.copy(decoder_of(model, True))
    found = [decoder.start(rows, mask, 4, source)]
    found += [decoder.next(NEXT[:, column]) for column in range(3)]
    prefix = "decoder_" if source else ""
    for row, length in enumerate(lengths):
        ids = np.array([[*rows[row, :length], *NEXT[row]]])
        inputs = {name: x[row : row + 1] for name, x in source.items()}
        inputs |= {prefix + "token_ids": ids, prefix + "padding_mask": np.ones_like(ids)}
        inputs = {name: x for name, x in inputs.items() if name in model.input}
        said = ops.convert_to_numpy(model(inputs))[0, length - 1 :]
        np.testing.assert_allclose([logits[row] for logits in found], said, atol=1e-3)


@pytest.mark.backends
def test_a_block_may_be_called_several_times():
    inputs, shared = Inputs(""), block()
    x = inputs.embedded()
    for _ in range(3):
        x = shared(x, padding_mask=inputs["padding_mask"])
    assert_right(model_of(inputs, x), kept=True)


def part(*blocks):
    features, mask = keras.Input((None, WIDTH)), keras.Input((None,), dtype="int32")
    x = features
    for each in blocks:
        x = each(x, padding_mask=mask)
    return keras.Model([features, mask], x)


@pytest.mark.parametrize("same", [True, False], ids=["one model twice", "two with equal names"])
def test_models_inside_a_model(same):
    inputs = Inputs("")
    first = part(block("block_0"), RecurrentBlock(WIDTH, name="lstm"))
    second = first if same else part(block("block_0"), RecurrentBlock(WIDTH, name="lstm"))
    x = first([inputs.embedded(), inputs["padding_mask"]])
    assert_right(model_of(inputs, second([x, inputs["padding_mask"]])), kept=True)


class Tripled(TransformerBlock):
    def call(self, inputs, padding_mask=None, encoder_output=None, encoder_padding_mask=None):
        return 3 * super().call(inputs, padding_mask)


class LooksBack(layers.Dense):
    def call(self, inputs, training=None):
        return ops.cumsum(super().call(inputs), axis=1)


def cumulated(x):
    return ops.cumsum(x, axis=1)


def looking_back_inside():
    made = block()
    made.build((None, None, WIDTH))
    made.feed_forward.up.activation = cumulated
    return made


@pytest.mark.parametrize(
    "make",
    [
        lambda: block(kind=Tripled),
        lambda: LooksBack(WIDTH),
        lambda: layers.Activation(cumulated),
        lambda: layers.Dense(WIDTH, activation=cumulated),
        looking_back_inside,
    ],
    ids=["block", "dense", "activation", "dense's activation", "inside a block"],
)
def test_layers_that_are_not_what_they_seem(make):
    inputs = Inputs("")
    x = make()(inputs.embedded())
    assert_right(model_of(inputs, block()(x, inputs["padding_mask"])), kept=False)


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: layers.LayerNormalization(axis=1)(x),
        lambda x: layers.Concatenate(axis=1)([x, x]),
        lambda x: layers.Add()([x, np.ones((1, 7, WIDTH), "float32")]),
    ],
    ids=["normalization", "concatenation", "constant"],
)
def test_layers_over_positions(mix):
    inputs = {n: keras.Input((7,), dtype="int32", name=n) for n in ("token_ids", "padding_mask")}
    x = layers.Embedding(VOCAB, WIDTH)(inputs["token_ids"])
    assert can_keep(keras.Model(inputs, x))
    assert not can_keep(keras.Model(inputs, mix(x)))


def test_arguments_by_keyword():
    inputs = Inputs("")
    x = PositionEmbedding(16)(inputs=inputs.embedded())
    x = block()(inputs=x, padding_mask=inputs["padding_mask"])
    x = block()(x)
    assert_right(model_of(inputs, RecurrentBlock(WIDTH)(inputs=x)), kept=True)


def test_another_mask():
    inputs = Inputs("")
    x = block()(inputs.embedded(), padding_mask=inputs["token_ids"])
    assert not can_keep(model_of(inputs, x))


@pytest.mark.backends
@pytest.mark.parametrize("count", [1, 2])
def test_relative_positions(count):
    """Blocks that share a bias, or have two in turn; prompts that are padded to one width."""
    inputs = Inputs("")
    biases = [RelativePositionBias(2, 4, 5)(inputs["padding_mask"]) for _ in range(count)]
    x = inputs.embedded()
    for number in range(3):
        bias = biases[number % count]
        x = block(rope_theta=None)(x, inputs["padding_mask"], position_bias=bias)
    model = model_of(inputs, x)
    for layer in model.layers:
        if isinstance(layer, RelativePositionBias):
            layer.embeddings.assign(4 * layer.embeddings)
    assert_right(model, kept=True)


@pytest.mark.parametrize(
    "bias",
    [
        lambda inputs: RelativePositionBias(2)(inputs["token_ids"]),
        lambda inputs: 2 * RelativePositionBias(2)(inputs["padding_mask"]),
        lambda inputs: np.ones((1, 2, 1, 1), "float32"),
    ],
    ids=["of other inputs", "changed", "constant"],
)
def test_other_biases(bias):
    inputs = Inputs("")
    x = block()(inputs.embedded(), inputs["padding_mask"], position_bias=bias(inputs))
    assert not can_keep(model_of(inputs, x))


def encoder_decoder(attend, encode=lambda x: x):
    inputs = Inputs("", "decoder_")
    source = block("encoder", causal=False)(inputs.embedded(), inputs["padding_mask"])
    target = inputs.embedded("decoder_")
    return model_of(inputs, attend(target, encode(source), inputs))


def with_block(target, source, inputs, **masks):
    attend = block("decoder", cross_attention=True)
    return attend(target, inputs["decoder_padding_mask"], encoder_output=source, **masks)


def with_attention(target, source, inputs, **masks):
    found = Attention(2, cross_attention=True)(target, encoder_output=source, **masks)
    return layers.Concatenate()([target, found])


@pytest.mark.backends
@pytest.mark.parametrize(
    ("attend", "name"),
    [(with_block, "encoder_padding_mask"), (with_attention, "padding_mask")],
    ids=["block", "attention"],
)
def test_a_mask_of_the_source(attend, name):
    def masked(target, source, inputs):
        return attend(target, source, inputs, **{name: inputs["padding_mask"]})

    def masked_otherwise(target, source, inputs):
        return attend(target, source, inputs, **{name: inputs["token_ids"] > 5})

    assert_right(encoder_decoder(masked), kept=True)
    assert_right(encoder_decoder(attend), kept=False)
    assert_right(encoder_decoder(masked_otherwise), kept=False)
    pool = layers.AveragePooling1D(2, padding="same")
    assert_right(encoder_decoder(attend, pool), kept=False)


def test_a_bias_of_the_source():
    def attend(target, source, inputs):
        mask = inputs["padding_mask"]
        bias = RelativePositionBias(2)(mask)
        return with_block(target, source, inputs, encoder_padding_mask=mask, position_bias=bias)

    assert not can_keep(encoder_decoder(attend))


def added(x, embedded):
    skip = layers.Dense(VOCAB, name="skip")(embedded)
    return layers.Add()([layers.Dense(VOCAB, name="head_scores")(x), skip])


def added_later(x, embedded):
    skip = layers.Dense(VOCAB, name="skip")(embedded)
    return layers.Add()([skip, layers.Dense(VOCAB, name="head_scores")(x)])


def joined(x, embedded):
    both = layers.Concatenate(name="head_join")([embedded, x])
    return layers.Dense(VOCAB, name="head_scores")(both)


def residual(x, embedded):
    hidden = layers.Dense(WIDTH, activation="tanh", name="head_hidden")(x)
    return layers.Dense(VOCAB, name="head_scores")(layers.Add(name="head_sum")([hidden, x]))


@pytest.mark.parametrize("head", [added, added_later, joined, residual])
def test_heads_that_read_more_than_one_tensor(head):
    inputs = Inputs("")
    embedded = inputs.embedded()
    x = block()(embedded, inputs["padding_mask"])
    assert_right(model_of(inputs, head(x, embedded), head=False), kept=True)


def test_a_head_of_token_ids():
    inputs = Inputs("")
    table = layers.Embedding(VOCAB, VOCAB, name="head_table")
    assert_right(model_of(inputs, table(inputs["token_ids"]), head=False), kept=True)


def test_token_ids_alone():
    inputs = Inputs("")
    del inputs["padding_mask"]
    assert_right(model_of(inputs, inputs.embedded()), kept=False)
