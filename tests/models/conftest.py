from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from keras_finetune import models

VOCAB = 50

BUILDERS: dict[str, Callable[..., keras.Model]] = {
    "lstm": lambda **more: models.lstm_encoder(VOCAB, 16, 2, embedding_dim=8, **more),
    "lstm_bidirectional": lambda **more: models.lstm_encoder(
        VOCAB, 16, 2, bidirectional=True, **more
    ),
    "cnn": lambda **more: models.cnn_encoder(VOCAB, 16, 2, kernel_sizes=(2, 3, 5), **more),
    "ngram": lambda **more: models.ngram_encoder(
        VOCAB, 16, ngram_sizes=(2, 3), num_buckets=100, **more
    ),
    "encoder": lambda **more: models.transformer_encoder(
        VOCAB, 2, 4, 16, max_length=40, num_segments=2, **more
    ),
    "encoder_prenorm_rotary": lambda **more: models.transformer_encoder(
        VOCAB, 2, 4, 16, positions="rotary", norm_first=True, activation="geglu", **more
    ),
    "decoder_gpt2": lambda **more: models.transformer_decoder(
        VOCAB, 2, 4, 16, max_length=40, **more
    ),
    "decoder_llama": lambda **more: models.transformer_decoder(
        VOCAB,
        2,
        4,
        16,
        24,
        positions="rotary",
        norm="rms",
        activation="swiglu",
        use_bias=False,
        num_kv_heads=2,
        rope_scaling={"rope_type": "linear", "factor": 2.0},
        **more,
    ),
    "decoder_qwen": lambda **more: models.transformer_decoder(
        VOCAB,
        1,
        4,
        16,
        24,
        positions="rotary",
        norm="rms",
        activation="swiglu",
        use_bias=False,
        qkv_bias=True,
        qk_norm=True,
        num_kv_heads=2,
        head_dim=8,
        **more,
    ),
    "encoder_decoder": lambda **more: models.encoder_decoder(
        VOCAB, 1, 4, 16, max_length=40, num_decoder_layers=2, **more
    ),
    "encoder_decoder_t5": lambda **more: models.encoder_decoder(
        VOCAB,
        1,
        4,
        16,
        positions="relative",
        head_dim=6,
        num_buckets=8,
        max_distance=10,
        norm="rms",
        activation="geglu_approximate",
        use_bias=False,
        attention_scale=1.0,
        **more,
    ),
    "lstm_encoder_decoder": lambda **more: models.lstm_encoder_decoder(
        VOCAB, 16, 2, embedding_dim=8, **more
    ),
    "encoder_decoder_postnorm": lambda **more: models.encoder_decoder(
        VOCAB, 1, 2, 16, max_length=40, norm_first=False, **more
    ),
}


def make_inputs(
    model: keras.Model,
    lengths: tuple[int, ...] = (5, 3, 1),
    width: int | None = None,
    decoder_width: int | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """The same rows at any width; what is under the padding is garbage that differs by width."""
    inputs: dict[str, np.ndarray] = {}
    for prefix, extra in (("", 0), ("decoder_", 1)):
        if prefix + "token_ids" not in model.input:
            continue
        real = [length + extra for length in lengths]
        columns = (decoder_width if prefix else width) or max(real)
        garbage = np.random.default_rng([columns, 99])
        token_ids = garbage.integers(0, VOCAB, (len(real), columns)).astype("int32")
        segment_ids = garbage.integers(0, 2, (len(real), columns)).astype("int32")
        rng = np.random.default_rng([seed, extra])
        for row, length in enumerate(real):
            token_ids[row, :length] = rng.integers(0, VOCAB, length)
            segment_ids[row, :length] = rng.integers(0, 2, length)
        inputs[prefix + "token_ids"] = token_ids
        inputs[prefix + "padding_mask"] = np.arange(columns) < np.array(real)[:, None]
        if prefix + "segment_ids" in model.input:
            inputs[prefix + "segment_ids"] = segment_ids
    return inputs


def run(model: keras.Model, inputs: dict[str, np.ndarray]) -> Any:
    if keras.backend.backend() == "jax":  # It would compile every operation for itself.
        return model.predict_on_batch(inputs)
    found = model(inputs, training=False)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, found)


def randomize(layer: keras.layers.Layer, seed: int = 0) -> None:
    """Give every weight a value of some size, biases and norms too, so that each one matters."""
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        if weight.dtype.startswith(("float", "bfloat")):
            weight.assign(rng.normal(0.1, 0.4, weight.shape).astype("float32"))


@pytest.fixture(params=list(BUILDERS))
def build(request: pytest.FixtureRequest) -> Callable[..., keras.Model]:
    keras.utils.set_random_seed(0)
    return BUILDERS[request.param]


@pytest.fixture
def builders() -> dict[str, Callable[..., keras.Model]]:
    return BUILDERS


@pytest.fixture
def rows() -> Callable[..., dict[str, np.ndarray]]:
    return make_inputs


@pytest.fixture
def outputs() -> Callable[..., np.ndarray]:
    return run


@pytest.fixture
def random_weights() -> Callable[..., Any]:
    return randomize
