"""The cache against the same run without it."""

import keras
import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune import FineTuner, Stage
from keras_finetune.tuning.find_rows import rows_of
from keras_finetune.tuning.frozen_prefix import make_prefix, prefix_inputs
from keras_finetune.tuning.prefix_cut import find_cut

from .conftest import cnn, losses, make_task, transformer

pytestmark = pytest.mark.usefixtures("own_cache")


def assert_same(one, other):
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-5)


@pytest.mark.backends
def test_a_transformer_trains_as_without(computed):
    task = make_task([3, 28])  # Two widths.
    make = lambda: transformer(task, num_layers=2, dropout=0.1)  # noqa: E731
    freeze = ("backbone", {"bottom": 1})
    plain, _ = losses(task, make, False, freeze=freeze)
    assert not computed
    cached, _ = losses(task, make, True, freeze=freeze)
    assert len(computed) == 2
    assert_same(cached, plain)


def test_frozen_embeddings_below_an_lstm(task, computed):
    def make():
        keras.utils.set_random_seed(0)
        backbone = kft.models.lstm_encoder(task.tokenizer.vocab_size, hidden_dim=16)
        return task.build(backbone, pooling="max", dropout=0.0)

    plain, _ = losses(task, make, False, freeze=("embeddings", {}))
    cached, _ = losses(task, make, True, freeze=("embeddings", {}))
    assert len(computed) == 2
    assert_same(cached, plain)


def test_callbacks_see_the_whole_model_and_it_is_ordinary_afterwards(task, tmp_path):
    seen = []

    class Predict(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            data = task.dataset(task.held_out, shuffle=False)
            seen.append(self.model.evaluate(data, verbose=0, return_dict=True)["loss"])
            assert any(folder.rglob("*.bin"))

    folder = tmp_path / "cache" / "prefix"
    history, tuner = losses(task, lambda: transformer(task), True, callbacks=[Predict()])
    np.testing.assert_allclose(seen, history["val_loss"], rtol=1e-4)
    assert not any(folder.rglob("*.bin"))
    model = tuner.model
    assert "call" not in vars(model)
    data = task.dataset(task.rows, shuffle=False)
    before = model.predict(data, verbose=0)
    again = keras.models.load_model(tuner.save(tmp_path / "model.keras"), compile=False)
    np.testing.assert_allclose(again.predict(data, verbose=0), before, atol=1e-6)
    model.fit(data, shuffle=False, verbose=0)


def test_a_folder_is_kept_and_found_again_for_the_same_weights_and_rows(task, tmp_path, computed):
    first, _ = losses(task, lambda: cnn(task), tmp_path / "kept", epochs=1)
    assert len(computed) == 2
    assert any((tmp_path / "kept").rglob("*.bin"))
    prefix_before = [store.stat().st_mtime_ns for store in (tmp_path / "kept").rglob("*.bin")]
    second, _ = losses(task, lambda: cnn(task), tmp_path / "kept", epochs=1)
    assert prefix_before == [s.stat().st_mtime_ns for s in (tmp_path / "kept").rglob("*.bin")]
    assert_same(first, second)

    def other():
        model = cnn(task)
        layer = model.get_layer("token_embedding")
        layer.set_weights([np.asarray(w) * 3 for w in layer.get_weights()])
        return model

    plain, _ = losses(task, other, False, epochs=1)
    cached, _ = losses(task, other, tmp_path / "kept", epochs=1)
    assert_same(cached, plain)
    task.rows = {name: values[::-1] for name, values in task.rows.items()}
    plain, _ = losses(task, other, False, epochs=1)
    cached, _ = losses(task, other, tmp_path / "kept", epochs=1)
    assert_same(cached, plain)


def test_stages_are_the_same_and_a_higher_cut_goes_on_from_a_lower_one(task, computed):
    found = []
    for cache_frozen in (True, False):
        tuner = FineTuner(transformer(task, num_layers=2, dropout=0.1))
        tuner.compile("adam", learning_rate=0.01)
        stages = [
            Stage("top", ["block_1", "head_*"]),
            Stage("head", "head"),
            Stage("deeper", ["block_0", "block_1", "head_*"]),
        ]
        data = task.dataset(task.rows, batch_size=16, seed=3)
        tuner.fit_stages(stages, data, cache_frozen=cache_frozen, verbose=0)
        found.append(tuner.history)
    assert_same(*found)
    assert len(computed) == 3
    assert "block_0" in computed[0]
    # The second stage runs block_1, which trained in between, on what the first one kept.
    assert computed[1][:1] == ["block_1"]


@pytest.mark.backends
@pytest.mark.parametrize("form", ["split", "list"])
def test_arrays(computed, form):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(70, 5)).astype("float32"), np.arange(70) % 2
    weight = rng.uniform(size=70)
    forms = {"split": {"validation_split": 0.2}, "list": {"validation_data": [x, y]}}
    found = []
    for cache_frozen in (False, True):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(8, "relu", name=name) for name in ("low", "middle")]
        model = keras.Sequential([keras.Input((5,)), *layers, keras.layers.Dense(2, name="high")])
        tuner = FineTuner(model)
        tuner.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        tuner.freeze(["low", "middle"])
        tuner.fit(
            x,
            y,
            sample_weight=weight,
            **forms[form],
            epochs=2,
            batch_size=8,
            shuffle=False,
            cache_frozen=cache_frozen,
            verbose=0,
        )
        found.append(tuner.history)
    assert len(computed) == 2
    assert_same(*found)


def nested():
    keras.utils.set_random_seed(0)
    inner_input = keras.Input((None,), dtype="int32")
    hidden = keras.layers.Embedding(20, 8, mask_zero=True, name="embedding")(inner_input)
    hidden = keras.layers.LSTM(6, return_sequences=True, name="low")(hidden)
    hidden = keras.layers.LSTM(5, return_sequences=True, name="high")(hidden)
    inner = keras.Model(inner_input, hidden, name="inner")
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.GlobalAveragePooling1D()(inner(ids))
    return keras.Model(ids, keras.layers.Dense(2, name="out")(x))


def test_a_list_of_labels_and_inputs_of_one_number():
    x = np.random.default_rng(0).normal(size=40).astype("float32")
    y, found = [x, (x > 0).astype("int32")], []
    for cache_frozen in (True, False):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((1,))
        low = keras.layers.Dense(3, name="low")(inputs)
        outputs = [keras.layers.Dense(n, name=name)(low) for n, name in ((1, "a"), (2, "b"))]
        tuner = FineTuner(keras.Model(inputs, outputs))
        crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        tuner.compile("sgd", ["mse", crossentropy])
        tuner.freeze("low")
        args = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
        tuner.fit(x, y, validation_data=(x, y), cache_frozen=cache_frozen, **args)
        found.append(tuner.history)
    assert set(found[0]) == set(found[1])
    for name, values in found[0].items():
        np.testing.assert_allclose(values, found[1][name], rtol=1e-5)


def test_a_users_pipeline_of_a_nested_model_with_keras_masks(computed):
    tf = pytest.importorskip("tensorflow")

    def batches():
        for width in (4, 7, 5, 7):
            ids = np.random.default_rng(width).integers(0, 20, (8, width)).astype("int32")
            ids[:, 0] = 1
            yield ids, ids[:, 1] % 2

    data = tf.data.Dataset.from_generator(
        batches,
        output_signature=(tf.TensorSpec((None, None), "int32"), tf.TensorSpec((None,), "int32")),
    ).apply(tf.data.experimental.assert_cardinality(4))
    found = []
    for cache_frozen in (False, True):
        tuner = FineTuner(nested())
        tuner.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        tuner.freeze(["embedding", "low"])
        tuner.fit(data, epochs=2, cache_frozen=cache_frozen, verbose=0)
        found.append(tuner.history)
    assert [steps[-1] for steps in computed] == ["low"]
    assert_same(*found)


def test_other_batches_of_a_users_pipeline_are_not_taken_for_the_same(tmp_path):
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(0)
    first, y = rng.normal(size=(64, 5)).astype("float32"), np.arange(64) % 2
    second = np.concatenate([first[:8], rng.normal(size=(56, 5)).astype("float32")])

    def trained(x, cache_frozen):
        keras.utils.set_random_seed(0)
        low, out = keras.layers.Dense(4, name="low"), keras.layers.Dense(2, name="out")
        model = keras.Sequential([keras.Input((5,)), low, out])
        tuner = FineTuner(model)
        tuner.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        tuner.freeze("low")
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
        tuner.fit(data, epochs=2, cache_frozen=cache_frozen, verbose=0)
        return tuner.history

    trained(first, tmp_path / "kept")
    assert_same(trained(second, tmp_path / "kept"), trained(second, False))


def test_frozen_dropout_is_a_choice(task):
    """Off by default; active on demand, and then nothing is cached."""
    make = lambda: transformer(task, dropout=0.5)  # noqa: E731
    off, _ = losses(task, make, False, epochs=1)
    active, _ = losses(task, make, False, epochs=1, frozen_dropout=True)
    assert abs(off["loss"][0] - active["loss"][0]) > 1e-4
    with pytest.raises(ValueError, match="frozen_dropout=True"):
        losses(task, make, True, frozen_dropout=True)


def test_dropout_of_the_head_stays_active(task):
    quiet, _ = losses(task, lambda: cnn(task), True, epochs=1)
    noisy, _ = losses(task, lambda: cnn(task, dropout=0.5), True, epochs=1)
    assert abs(quiet["loss"][0] - noisy["loss"][0]) > 1e-3


def test_bfloat16_is_kept_as_it_is(task, tmp_path):
    def make():
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            return transformer(task)
        finally:
            keras.config.set_dtype_policy("float32")

    frozen = {"freeze": ("embeddings", {}), "epochs": 1}
    plain, _ = losses(task, make, False, **frozen)
    cached, _ = losses(task, make, tmp_path / "kept", **frozen)
    store = kft.data.Store(tmp_path / "kept" / "train")
    assert store.column("cut_0").dtype.name == "bfloat16"
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(cached[name], plain[name], rtol=0.05)


def test_the_frozen_layers_are_traced_once_for_all_widths(task):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("Only TensorFlow traces for shapes.")
    model = transformer(task)
    FineTuner(model).freeze("backbone")
    cut = find_cut(model)
    prefix = make_prefix(cut)
    rows = rows_of(task.dataset(task.rows, batch_size=16), None)
    inputs = [prefix_inputs(cut, block.x) for block in rows.blocks()]
    narrower = [{name: x[:3, :-2] for name, x in some.items()} for some in inputs]
    shapes = {prefix.run(some)["cut_0"].shape for some in [*inputs, *narrower]}
    assert len(shapes) > 1
    assert prefix.predict_function.experimental_get_tracing_count() == 1


@pytest.mark.backends
def test_a_row_that_gives_nan_is_the_loss_to_tell():
    x = np.random.default_rng(0).integers(1, 9, (8, 6)).astype("int32")
    x[3] = 0  # An average over no token.
    layers = [keras.layers.Embedding(9, 4, mask_zero=True, name="low")]
    layers += [keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((6,), dtype="int32"), *layers])
    tuner = FineTuner(model)
    tuner.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    tuner.freeze("low")
    with pytest.raises(FloatingPointError, match="The loss is nan"):
        tuner.fit(x, np.arange(8) % 2, epochs=2, cache_frozen=True, verbose=0)
