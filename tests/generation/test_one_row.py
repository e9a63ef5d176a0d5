"""The next token of one row, or of few, by copies of the kernels."""

import keras
import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune import models
from keras_finetune.generation import one_row
from keras_finetune.generation.one_row import MOST_ROWS, few_rows_step, one_row_step
from keras_finetune.generation.prompts import decoder_of

PROMPT = [5, 6, 7, 8, 9]

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="Others run one row as they run several."
)


def llama(dtype="float32", hidden_dim=32):
    keras.utils.set_random_seed(0)
    backbone = models.transformer_decoder(
        60, 2, 4, hidden_dim, 48, positions="rotary", norm="rms", activation="swiglu",
        num_kv_heads=2, use_bias=False, dtype=dtype,
    )  # fmt: skip
    model = models.language_model(backbone)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if len(variable.shape) == 2:
            variable.assign(rng.normal(0, 0.3, variable.shape))
    return model


def bart(dtype):
    keras.utils.set_random_seed(0)
    backbone = models.encoder_decoder(60, 2, 4, 32, max_length=16, norm_first=False, dtype=dtype)
    model = models.language_model(backbone)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:  # Biases are zero at first.
        if len(variable.shape) == 1:
            variable.assign(variable + rng.normal(0, 0.3, variable.shape))
    return model


def logits(model, tokens, rows=1, source=None, room=32):
    """What the decoder gives after a prompt's beginning and then each of the other tokens."""
    decoder = decoder_of(model, True)
    repeated = np.repeat([tokens], rows, axis=0)
    source = {name: np.repeat(x, rows, axis=0) for name, x in (source or {}).items()}
    found = [decoder.start(repeated[:, :2], np.ones((rows, 2), bool), room, source)]
    found += [decoder.next(repeated[:, n].astype("int32")) for n in range(2, len(tokens))]
    return np.array(found)[:, 0]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.1), ("mixed_bfloat16", 0.1)]
)
def test_one_row_is_computed_as_in_a_batch(dtype, tolerance):
    model = llama(dtype)
    assert decoder_of(model, True)._one_row is not None
    alone, together = logits(model, PROMPT), logits(model, PROMPT, rows=2)
    scale = np.abs(together).max()
    np.testing.assert_allclose(alone, together, atol=tolerance * scale)


DTYPES = [("float32", 1e-5), ("bfloat16", 0.1), ("mixed_bfloat16", 0.1)]


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_few_rows_are_computed_as_many_are(dtype, tolerance, monkeypatch):
    monkeypatch.setattr(one_row, "has_amx", lambda: True)
    model = llama(dtype)
    assert decoder_of(model, True)._few_rows.suits(rows=8, tokens=32)
    few, many = logits(model, PROMPT, rows=8), logits(model, PROMPT, rows=MOST_ROWS + 1)
    np.testing.assert_allclose(few, many, atol=tolerance * np.abs(many).max())


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_few_rows_with_biases_and_an_encoder(dtype, tolerance, monkeypatch):
    monkeypatch.setattr(one_row, "has_amx", lambda: True)
    model = bart(dtype)
    mask = np.array([[1, 1, 1, 0]], "int32")
    source = {"token_ids": np.array([[9, 8, 7, 0]], "int32"), "padding_mask": mask}
    assert decoder_of(model, True)._few_rows.suits(rows=8, tokens=32)
    few = logits(model, PROMPT, rows=8, source=source)
    many = logits(model, PROMPT, rows=MOST_ROWS + 1, source=source)
    np.testing.assert_allclose(few, many, atol=tolerance * np.abs(many).max())


def test_few_rows_have_a_way_of_their_own_in_bfloat16_with_amx_only(monkeypatch):
    def step(dtype, with_amx):
        monkeypatch.setattr(one_row, "has_amx", lambda: with_amx)
        layer = keras.layers.Dense(2, dtype=dtype)
        layer.build((1, 16))
        return few_rows_step([layer], layer)

    def rows_of(found):
        return [rows for rows in range(20) if found.suits(rows, tokens=8)]

    assert rows_of(step("bfloat16", True)) == list(range(2, MOST_ROWS + 1))
    assert step("bfloat16", False) is None
    assert rows_of(step("float32", False)) == list(range(8, MOST_ROWS + 1))


@pytest.mark.parametrize(("dtype", "fewest"), [("float32", 32), ("bfloat16", 8)])
def test_short_texts_are_not_worth_a_copy(dtype, fewest):
    model = llama(dtype)
    short, long = (logits(model, PROMPT, room=room) for room in (fewest - 1, fewest))
    np.testing.assert_allclose(short, long, atol=0.1 * np.abs(long).max())
    for room, copied in ((fewest - 1, False), (fewest, True)):
        decoder = decoder_of(model, True)
        decoder.start(np.array([PROMPT]), np.ones((1, len(PROMPT)), bool), room, {})
        decoder.next(np.array([5], "int32"))
        assert (decoder._copies is not None) == copied


def test_few_rows_may_end_at_different_times():
    model = llama()

    def texts(prompts):
        found = kft.generation.generate(model, prompts, max_new_tokens=8, end_id=41)
        return [list(map(int, x)) for x in found]

    prompts = [[5 + n, 6, 7] for n in range(8)]
    alone = [texts([prompt])[0] for prompt in prompts]
    assert len({len(x) for x in alone}) > 1
    assert texts(prompts) == alone


def test_changed_weights_count():
    model = llama()
    before = logits(model, PROMPT)
    kernel = model.get_layer("block_1").feed_forward.down.kernel
    kernel.assign(-kernel.value)
    after = logits(model, PROMPT)
    assert np.abs(after - before).max() > 0.1
    np.testing.assert_allclose(after, logits(model, PROMPT, rows=2), atol=1e-3)


def test_no_copy_stays():
    model = llama()
    kft.generation.generate(model, [PROMPT], max_new_tokens=32, end_id=-1)
    shared = decoder_of(model, True)
    assert shared._copies is None
    assert not shared._kept


def test_what_would_be_slower_is_left_alone():
    def step(width, dtype):
        layer = keras.layers.Dense(2, dtype=dtype)
        layer.build((1, width))
        return one_row_step([layer], layer)

    assert step(4095, "float32") is not None
    assert step(4096, "float32") is None
    assert step(16, "float16") is None
    assert one_row_step([keras.layers.Activation("relu")], None) is None
