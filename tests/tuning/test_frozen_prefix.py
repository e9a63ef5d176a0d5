"""A model that is cut, and what Keras compiled for it."""

import keras
import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune.models.model_graph import run_steps
from keras_finetune.tuning import frozen_prefix
from keras_finetune.tuning.frozen_prefix import make_prefix, prefix_inputs
from keras_finetune.tuning.prefix_cut import find_cut

X, Y = np.random.default_rng(0).normal(size=(40, 8)).astype("float32"), np.arange(40) % 2

needs_traces = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch does not trace"
)


@pytest.fixture
def tuner():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(8, name=name) for name in ("low", "middle")]
    model = keras.Sequential([keras.Input((8,)), *layers, keras.layers.Dense(2, name="top")])
    tuner = kft.FineTuner(model)
    tuner.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    tuner.freeze("low")
    return tuner


@pytest.mark.backends
@needs_traces
@pytest.mark.parametrize("cache_frozen", [True, False])
def test_a_second_fit_traces_nothing(tuner, cache_frozen):
    for traced in (True, False):
        tuner.fit(X, Y, batch_size=8, epochs=2, cache_frozen=cache_frozen, verbose=0)
        assert (tuner.report().traces > 0) is traced


@pytest.mark.backends
@needs_traces
def test_what_is_compiled_of_the_whole_model_stays(tuner):
    losses, traced = [], []
    for _ in range(2):
        tuner.fit(X, Y, batch_size=8, epochs=2, cache_frozen=True, verbose=0)
        losses.append(tuner.model.evaluate(X, Y, batch_size=8, verbose=0))
        traced.append(tuner.model.test_function)
    assert traced[0] is traced[1] is not None
    assert losses[1] < losses[0]


@pytest.mark.backends
@pytest.mark.parametrize("cache_frozen", [True, False])
def test_fits_that_alternate_train_what_is_trainable(tuner, cache_frozen):
    model = tuner.model
    for frozen in ("low", "middle", "low"):
        for _ in range(2):
            tuner.unfreeze("*")
            tuner.freeze(frozen)
            if frozen == "middle":
                tuner.freeze("low")
            before = {layer.name: layer.get_weights()[0] for layer in model.layers}
            tuner.fit(X, Y, batch_size=8, epochs=2, cache_frozen=cache_frozen, verbose=0)
            changed = [x.name for x in model.layers if np.any(x.get_weights()[0] != before[x.name])]
            assert changed == (["top"] if frozen == "middle" else ["middle", "top"])


@pytest.mark.backends
def test_another_loss_between_two_fits_counts(tuner):
    tuner.fit(X, Y, batch_size=8, epochs=2, cache_frozen=True, verbose=0)
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    tuner.compile("sgd", lambda y, logits: 100.0 * crossentropy(y, logits))
    history = tuner.fit(X, Y, batch_size=8, epochs=2, cache_frozen=True, verbose=0)
    assert history.history["loss"][0] > 20


@pytest.mark.backends
def test_relative_positions_are_computed_again():
    """They belong to no row, and so cannot be kept a row."""
    rng = np.random.default_rng(0)
    x = {name: rng.integers(1, 30, (16, 6)) for name in ("token_ids", "decoder_token_ids")}
    x |= {name.replace("token_ids", "padding_mask"): ids > 5 for name, ids in x.items()}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = None
    for cache_frozen in (True, False):
        keras.utils.set_random_seed(0)
        backbone = kft.models.encoder_decoder(
            30, 1, 2, 8, num_decoder_layers=2, positions="relative", dropout=0.0
        )
        tuner = kft.FineTuner(kft.models.text_classifier(backbone, 2, dropout=0.0))
        tuner.compile("sgd", loss)
        tuner.freeze("*")
        tuner.unfreeze(["decoder_block_1", "head"])
        names = {step.operation.name for step in find_cut(tuner.model).suffix}
        # The frozen block below has the same bias.
        assert {"decoder_position_bias", "decoder_block_1"} < names
        assert "decoder_block_0" not in names
        expected = expected or float(loss(Y[:16], keras.ops.convert_to_numpy(tuner.model(x))))
        history = tuner.fit(
            x, Y[:16], batch_size=16, epochs=2, cache_frozen=cache_frozen, verbose=0
        ).history
        assert history["loss"][0] == pytest.approx(expected, rel=1e-4)
        assert history["loss"][1] < history["loss"][0]


@pytest.mark.backends
@needs_traces
def test_what_is_frozen_is_traced_once_and_not_run_in_python(tuner, monkeypatch):
    calls = []

    def counted(*args, **kwargs):
        calls.append(None)
        return run_steps(*args, **kwargs)

    monkeypatch.setattr(frozen_prefix, "run_steps", counted)
    cut = find_cut(tuner.model)
    prefix = make_prefix(cut)
    for _ in range(3):
        prefix.run(prefix_inputs(cut, X))
    assert len(calls) == 1
