"""What holds for every builder."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_finetune import models

from .conftest import BUILDERS, make_inputs, randomize, run

pytestmark = pytest.mark.backends


LOWEST = ("block_0", "ngram_embedding")  # A bag of n-grams has no block, only an embedding more.


def head_of(model: keras.Model) -> keras.Model:
    return models.text_classifier(model, 3, pooling="mean", hidden_dim=8)


def lowest_block(model: keras.Model) -> keras.layers.Layer:
    return next(layer for layer in model.layers if layer.name.endswith(LOWEST))


@pytest.fixture(scope="module", params=list(BUILDERS))
def model(request):
    """One of each builder, with a head, for tests that leave it as it is."""
    keras.utils.set_random_seed(0)
    backbone = BUILDERS[request.param]()
    outputs = {"features": backbone.output, "logits": head_of(backbone).output}
    made = keras.Model(backbone.input, outputs)
    randomize(made)
    return made


@pytest.fixture(scope="module")
def narrow(model):
    return run(model, make_inputs(model))


def test_padding_changes_neither_features_nor_logits(model, narrow):
    wide = run(model, make_inputs(model, width=11, decoder_width=9))
    assert np.ptp(narrow["logits"]) > 0.1
    np.testing.assert_allclose(wide["logits"], narrow["logits"], rtol=0, atol=1e-5)
    inputs = make_inputs(model)
    mask = inputs.get("decoder_padding_mask", inputs["padding_mask"])
    features = wide["features"][:, : mask.shape[1]]
    np.testing.assert_allclose(features[mask], narrow["features"][mask], rtol=0, atol=2e-5)


@pytest.mark.parametrize("pooling", ["mean", "max", "last", "first"])
def test_padding_never_changes_the_logits_of_any_pooling(pooling):
    model = models.text_classifier(BUILDERS["encoder_decoder"](), 3, pooling=pooling)
    randomize(model)
    narrow = run(model, make_inputs(model))
    wide = run(model, make_inputs(model, width=11, decoder_width=9))
    wider = run(model, make_inputs(model, width=23, decoder_width=31))
    assert np.ptp(narrow) > 0.1
    np.testing.assert_allclose(wide, narrow, rtol=0, atol=1e-5)
    np.testing.assert_allclose(wider, narrow, rtol=0, atol=1e-5)


def test_a_row_alone_gives_what_it_gives_in_a_batch(model, narrow):
    together = make_inputs(model)
    for row in range(3):
        single = {key: value[row : row + 1] for key, value in together.items()}
        alone = run(model, single)["logits"][0]
        np.testing.assert_allclose(alone, narrow["logits"][row], rtol=0, atol=1e-5)


def test_a_row_of_padding_only_is_finite_and_harmless(model, narrow):
    inputs = make_inputs(model)
    for key in inputs:
        if key.endswith("padding_mask"):
            inputs[key][2] = False
    changed, expected = run(model, inputs)["logits"], narrow["logits"]
    assert np.isfinite(changed).all()
    np.testing.assert_allclose(changed[:2], expected[:2], rtol=0, atol=1e-5)


def test_length_is_variable_and_features_have_the_width_that_was_asked(model, narrow):
    assert model.output["features"].shape == (None, None, 16)
    short = make_inputs(model, lengths=(1,))
    for inputs, found in ((make_inputs(model), narrow), (short, run(model, short))):
        target = inputs.get("decoder_token_ids", inputs["token_ids"])
        assert found["features"].shape == (*target.shape, 16)


# Of float16, those whose masks and positions are made in ways of their own.
SMALLER = [(name, "mixed_bfloat16") for name in BUILDERS] + [
    pytest.param(name, "mixed_float16", marks=pytest.mark.slow)
    for name in ("lstm_bidirectional", "cnn", "encoder", "decoder_llama", "encoder_decoder_t5")
]


@pytest.mark.parametrize(("name", "policy"), SMALLER)
def test_logits_are_float32_under_mixed_precision(name, policy):
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = head_of(BUILDERS[name]())
    finally:
        keras.config.set_dtype_policy(previous)
    block = lowest_block(model)
    assert block.compute_dtype == policy.removeprefix("mixed_")
    logits = run(model, make_inputs(model))
    assert logits.dtype == "float32"
    assert np.isfinite(logits).all()


def test_dtype_reaches_every_layer(build):
    model = build(dtype="mixed_bfloat16")
    layers = model._flatten_layers(include_self=False)
    names = {layer.name: layer.dtype_policy.name for layer in layers if layer.weights}
    assert names
    assert set(names.values()) == {"mixed_bfloat16"}, names


def test_every_weight_trains_and_none_of_a_frozen_layer_does(build):
    model = head_of(build(dropout=0.0))
    inputs = make_inputs(model)
    labels = np.array([0, 1, 2])
    frozen = lowest_block(model)
    frozen.trainable = False
    assert frozen.trainable_weights == []
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(0.5), loss=loss)
    before = {id(weight): keras.ops.convert_to_numpy(weight) for weight in model.weights}
    kept = {id(weight) for weight in frozen.weights}
    model.fit(inputs, labels, epochs=2, batch_size=3, verbose=0)
    for weight in model.trainable_weights:
        changed = not np.array_equal(before[id(weight)], keras.ops.convert_to_numpy(weight))
        assert changed, f"{weight.path} got no gradient"
    for weight in model.weights:
        if id(weight) in kept and "seed" not in weight.path:
            np.testing.assert_array_equal(before[id(weight)], weight)


def test_names_tell_the_roles(build):
    model = head_of(build())
    names = [layer.name for layer in model.layers]
    assert "token_embedding" in names
    assert any(name.endswith(LOWEST) for name in names)
    assert [name for name in names if name.startswith("head_")] == [
        "head_pooling",
        "head_hidden",
        "head_dropout",
        "head_logits",
    ]
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)


def all_models():
    made = {name: head_of(build()) for name, build in BUILDERS.items()}
    made["language_model"] = models.language_model(BUILDERS["decoder_llama"]())
    made["language_model_untied"] = models.language_model(BUILDERS["decoder_gpt2"](), tied=False)
    made["masked_language_model"] = models.masked_language_model(BUILDERS["encoder"]())
    made["translation"] = models.language_model(BUILDERS["encoder_decoder"]())
    return made


SCRIPT = """
import json, sys
import numpy as np
import keras
import keras_finetune as kft
folder = sys.argv[1]
for number, name in enumerate(json.loads(sys.argv[2])):
    load = keras.saving.load_model if number else kft.load_model
    model = load(folder + "/" + name + ".keras")
    inputs = dict(np.load(folder + "/" + name + ".npz"))
    expected = inputs.pop("expected")
    got = keras.ops.convert_to_numpy(model(inputs, training=False))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
print("equal")
"""


@pytest.mark.slow
def test_saving_round_trips_in_a_fresh_process(tmp_path):
    made = all_models()
    for name, model in made.items():
        randomize(model)
        inputs = make_inputs(model)
        if "mask_positions" in model.input:
            inputs["mask_positions"] = np.array([[0, 2], [1, 1], [0, 0]], "int32")
        model.save(tmp_path / f"{name}.keras")
        np.savez(tmp_path / f"{name}.npz", expected=run(model, inputs), **inputs)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), json.dumps(list(made))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("equal\n"), done.stderr[-3000:]


@pytest.mark.parametrize("name", ["lstm_encoder", "cnn_encoder", "ngram_encoder"])
def test_token_dropout_hides_whole_tokens_in_training_only(name):
    model = getattr(models, name)(50, hidden_dim=8, dropout=0.0, token_dropout=0.5)
    ids = np.arange(48).reshape(4, 12)
    vectors = keras.Model(model.inputs, model.get_layer("token_dropout").output)
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids, bool)}
    hidden = keras.ops.convert_to_numpy(vectors(inputs, training=True)) == 0
    np.testing.assert_array_equal(hidden.any(axis=-1), hidden.all(axis=-1))
    assert 0 < hidden.mean() < 1
    assert (keras.ops.convert_to_numpy(vectors(inputs, training=False)) != 0).any(axis=-1).all()


def test_no_positions():
    for builder in (models.transformer_encoder, models.transformer_decoder):
        with pytest.raises(ValueError, match="max_length must be an int of at least 1"):
            builder(20, 1, 2, 8, max_length=0)
