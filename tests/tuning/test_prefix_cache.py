"""The cache against the same run without it."""

import keras
import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune import FineTuner, Stage
from keras_finetune.tuning.find_rows import rows_of
from keras_finetune.tuning.frozen_prefix import make_prefix, prefix_inputs
from keras_finetune.tuning.prefix_cut import find_cut

from .conftest import cnn, losses, transformer

pytestmark = pytest.mark.usefixtures("own_cache")


def assert_same(one, other):
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-5)


@pytest.mark.backends
@pytest.mark.parametrize(
    "freeze",
    [
        pytest.param(("backbone", {}), marks=pytest.mark.slow),
        ("backbone", {"bottom": 1}),
        pytest.param(("embeddings", {}), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_transformer_trains_as_without(task, computed, freeze):
    make = lambda: transformer(task, dropout=0.1)  # noqa: E731
    plain, tuner = losses(task, make, False, freeze=freeze)
    assert not computed
    cached, cached_tuner = losses(task, make, True, freeze=freeze)
    assert len(computed) == 2
    assert_same(cached, plain)
    x = next(iter(task.dataset(task.rows, batch_size=90).as_numpy_iterator()))[0]
    one, other = (t.model.predict(x, verbose=0) for t in (tuner, cached_tuner))
    np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("name", ["lstm_encoder", "cnn_encoder"])
def test_frozen_embeddings_below_others(task, computed, name):
    def make():
        keras.utils.set_random_seed(0)
        backbone = getattr(kft.models, name)(task.tokenizer.vocab_size, hidden_dim=16)
        return task.build(backbone, pooling="max", dropout=0.0)

    plain, _ = losses(task, make, False, freeze=("embeddings", {}))
    cached, _ = losses(task, make, True, freeze=("embeddings", {}))
    assert len(computed) == 2
    assert_same(cached, plain)


def test_the_model_is_ordinary_afterwards(task, tmp_path):
    _, tuner = losses(task, lambda: transformer(task), True)
    model = tuner.model
    assert "call" not in vars(model)
    data = task.dataset(task.rows, shuffle=False)
    before = model.predict(data, verbose=0)
    again = keras.models.load_model(tuner.save(tmp_path / "model.keras"), compile=False)
    np.testing.assert_allclose(again.predict(data, verbose=0), before, atol=1e-6)
    model.fit(data, shuffle=False, verbose=0)


def test_callbacks_see_the_whole_model(task):
    seen = []

    class Predict(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            data = task.dataset(task.rows, shuffle=False)
            seen.append(self.model.evaluate(data, verbose=0, return_dict=True)["loss"])

    history, _ = losses(task, lambda: transformer(task), True, callbacks=[Predict()])
    np.testing.assert_allclose(seen, history["val_loss"], rtol=1e-4)


def test_what_is_on_disk_goes_when_done(task, tmp_path):
    losses(task, lambda: cnn(task), True)
    folder = tmp_path / "cache" / "prefix"
    assert not any(folder.rglob("*.bin"))


def test_a_folder_is_kept_and_found_again(task, tmp_path, computed):
    first, _ = losses(task, lambda: cnn(task), tmp_path / "kept")
    assert len(computed) == 2
    assert any((tmp_path / "kept").rglob("*.bin"))
    prefix_before = [store.stat().st_mtime_ns for store in (tmp_path / "kept").rglob("*.bin")]
    second, _ = losses(task, lambda: cnn(task), tmp_path / "kept")
    assert prefix_before == [s.stat().st_mtime_ns for s in (tmp_path / "kept").rglob("*.bin")]
    assert_same(first, second)


def test_other_weights_are_not_taken_for_the_same(task, tmp_path):
    losses(task, lambda: cnn(task), tmp_path / "kept")

    def other():
        model = cnn(task)
        layer = model.get_layer("token_embedding")
        layer.set_weights([np.asarray(w) * 3 for w in layer.get_weights()])
        return model

    plain, _ = losses(task, other, False)
    cached, _ = losses(task, other, tmp_path / "kept")
    assert_same(cached, plain)


def test_other_rows_are_not_taken_for_the_same(task, tmp_path):
    losses(task, lambda: cnn(task), tmp_path / "kept")
    task.rows = {"text": task.rows["text"][::-1], "label": task.rows["label"][::-1]}
    plain, _ = losses(task, lambda: cnn(task), False)
    cached, _ = losses(task, lambda: cnn(task), tmp_path / "kept")
    assert_same(cached, plain)


def test_a_higher_cut_goes_on_from_a_lower_one(task, computed):
    stages = [Stage("head", "head", epochs=1)]
    tuner = FineTuner(transformer(task, num_layers=3))
    tuner.compile("adam", learning_rate=0.01)
    tuner.freeze("backbone", bottom=2)
    data = task.dataset(task.rows, batch_size=16)
    lowest = [Stage("top", ["block_2", "head_*"], epochs=1), *stages]
    tuner.fit_stages(lowest, data, cache_frozen=True, verbose=0)
    assert "block_1" in computed[0]
    # The second stage runs block_2, which trained in between, on what the first one kept.
    assert computed[1][:1] == ["block_2"]


def test_stages_are_the_same_with_and_without(task):
    found = []
    for cache_frozen in (True, False):
        tuner = FineTuner(transformer(task, num_layers=3))
        tuner.compile("adam", learning_rate=0.01)
        stages = [
            Stage("top", ["block_2", "head_*"], epochs=2),
            Stage("head", "head", epochs=2),
            Stage("deeper", ["block_1", "block_2", "head_*"], epochs=2),
        ]
        data = task.dataset(task.rows, batch_size=16, seed=3)
        tuner.fit_stages(stages, data, cache_frozen=cache_frozen, verbose=0)
        found.append(tuner.history)
    assert_same(*found)


@pytest.mark.backends
@pytest.mark.parametrize("form", ["split", "tuple", "list"])
def test_arrays(computed, form):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(70, 5)).astype("float32"), np.arange(70) % 2
    weight = rng.uniform(size=70)
    validation = {"split": {"validation_split": 0.2}}.get(form, {"validation_data": (x, y)})
    if form == "list":
        validation = {"validation_data": [x, y]}
    found = []
    for cache_frozen in (False, True):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((5,)),
                keras.layers.Dense(8, activation="relu", name="low"),
                keras.layers.Dense(8, activation="relu", name="middle"),
                keras.layers.Dense(2, name="high"),
            ]
        )
        tuner = FineTuner(model)
        tuner.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        tuner.freeze(["low", "middle"])
        tuner.fit(
            x,
            y,
            sample_weight=weight,
            **validation,
            epochs=3,
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
        tuner.fit(data, epochs=3, cache_frozen=cache_frozen, verbose=0)
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

    assert_same(trained(first, tmp_path / "kept"), trained(first, False))
    assert_same(trained(second, tmp_path / "kept"), trained(second, False))


def test_frozen_dropout_is_a_choice(task):
    """Off by default, cached or not; active on demand, and then nothing is cached."""
    make = lambda: transformer(task, dropout=0.5)  # noqa: E731
    off, _ = losses(task, make, False)
    cached, _ = losses(task, make, True)
    active, _ = losses(task, make, False, frozen_dropout=True)
    assert_same(off, cached)
    assert abs(off["loss"][0] - active["loss"][0]) > 1e-4
    with pytest.raises(ValueError, match="frozen_dropout=True"):
        losses(task, make, True, frozen_dropout=True)


def test_dropout_of_the_head_stays_active(task):
    quiet, _ = losses(task, lambda: cnn(task), True)
    noisy, _ = losses(task, lambda: cnn(task, dropout=0.5), True)
    assert abs(quiet["loss"][0] - noisy["loss"][0]) > 1e-3


def test_bfloat16_is_kept_as_it_is(task, tmp_path):
    def make():
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            return transformer(task)
        finally:
            keras.config.set_dtype_policy("float32")

    plain, _ = losses(task, make, False, freeze=("backbone", {"bottom": 1}))
    cached, _ = losses(task, make, tmp_path / "kept", freeze=("backbone", {"bottom": 1}))
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
    narrower = [{name: x[:3, :8] for name, x in some.items()} for some in inputs]
    shapes = {prefix.run(some)["cut_0"].shape for some in [*inputs, *narrower]}
    assert len(shapes) > 1
    assert prefix.predict_function.experimental_get_tracing_count() == 1
