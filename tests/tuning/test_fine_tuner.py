import keras
import numpy as np
import pytest

from keras_finetune import FineTuner, Stage, gradual_unfreezing, linear_probe_then_tune

from .conftest import compile_keras

pytestmark = pytest.mark.backends


def values(model):
    return [np.array(value) for value in model.get_weights()]


def adam(**settings):
    """Keras's own Adam with gradients of embeddings made dense.

    On TensorFlow it squares the gradient of each occurrence of a token, not the token's gradient,
    and so trains otherwise than on JAX and PyTorch; FineTuner's does not.
    """
    optimizer = keras.optimizers.Adam(0.01, **settings)
    if keras.backend.backend() != "tensorflow":
        return optimizer
    import tensorflow as tf

    apply = optimizer.apply

    def apply_dense(gradients, variables=None):
        apply([tf.convert_to_tensor(gradient) for gradient in gradients], variables)

    optimizer.apply = apply_dense
    return optimizer


def assert_close(reference, model):
    for expected, received in zip(values(reference), values(model), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)


def test_two_fits_are_one_keras_run_and_a_new_learning_rate_keeps_the_moments(
    make_classifier, data, loss
):
    """Compile again with another rate, against Keras with the rate set in between."""
    reference = make_classifier()
    compile_keras(reference, adam(), loss)
    reference.fit(*data, epochs=3, shuffle=False, verbose=0)
    tuner = FineTuner(make_classifier())
    tuner.compile("adam", loss, learning_rate=0.01)
    tuner.fit(*data, epochs=2, shuffle=False, verbose=0)
    tuner.fit(*data, epochs=1, shuffle=False, verbose=0)
    assert_close(reference, tuner.model)
    reference.optimizer.learning_rate = 0.001
    reference.fit(*data, epochs=2, shuffle=False, verbose=0)
    tuner.compile("adam", loss, learning_rate=0.001)
    tuner.fit(*data, epochs=2, shuffle=False, verbose=0)
    assert_close(reference, tuner.model)


def test_gradient_accumulation_is_keras_own(make_classifier, data, loss):
    reference = make_classifier()
    compile_keras(reference, adam(gradient_accumulation_steps=2), loss)
    reference.fit(*data, epochs=4, batch_size=12, shuffle=False, verbose=0)
    tuner = FineTuner(make_classifier())
    tuner.compile(keras.optimizers.Adam(0.01, gradient_accumulation_steps=2), loss)
    tuner.fit(*data, epochs=2, batch_size=12, shuffle=False, verbose=0)
    tuner.freeze("block_0")
    tuner.unfreeze("block_0")
    tuner.compile(keras.optimizers.Adam(0.01, gradient_accumulation_steps=2), loss)
    tuner.fit(*data, epochs=2, batch_size=12, shuffle=False, verbose=0)
    assert_close(reference, tuner.model)


def test_role_rates_follow_callbacks_and_survive_a_freeze(model, data, loss):
    tuner = FineTuner(model)
    tuner.compile("adam", loss, learning_rate={"backbone": 1e-4, "head": 1e-2})
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
    tuner.fit(*data, epochs=2, callbacks=[halve], verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.0025)
    tuner.freeze("block_0")
    tuner.fit(*data, verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.0025)
    tuner.compile("adam", loss, learning_rate=1e-2)
    tuner.fit(*data, verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)


def test_reduce_on_plateau(model, data, loss):
    tuner = FineTuner(model)
    tuner.compile("sgd", loss, learning_rate={"backbone": 0.0, "head": 0.5})
    reduce = keras.callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=0, min_delta=1e9)
    tuner.fit(*data, epochs=3, callbacks=[reduce], verbose=0)
    assert float(model.optimizer.learning_rate) < 0.05


def test_a_users_schedule_goes_on_over_a_freeze(model, data, loss):
    tuner = FineTuner(model)
    schedule = keras.optimizers.schedules.PolynomialDecay(0.1, 8, end_learning_rate=0.0)
    tuner.compile("sgd", loss, learning_rate=schedule)
    tuner.fit(*data, epochs=2, verbose=0)  # 2 steps an epoch.
    tuner.freeze("backbone")
    tuner.fit(*data, epochs=1, verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1 * (1 - 6 / 8))


def test_a_named_schedule_ends_at_zero_with_every_fit(model, data, loss):
    tuner = FineTuner(model)
    tuner.compile("adam", loss, learning_rate=0.1, schedule="linear", warmup=0.25)
    for _ in range(2):
        tuner.fit(*data, epochs=2, verbose=0)
        assert float(model.optimizer.learning_rate) == pytest.approx(0.0)
        assert int(model.optimizer.iterations) == 4


def test_stages_train_exactly_what_they_name(model, data, loss):
    tuner = FineTuner(model)
    tuner.compile("adam", loss)
    seen = []

    class Note(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            layers = self.model.layers
            seen.append([layer.name for layer in layers if layer.trainable_variables])

    stages = gradual_unfreezing(model, blocks_per_stage=2)
    histories = tuner.fit_stages(stages, *data, callbacks=[Note()], verbose=0)
    assert len(histories) == 3
    assert seen == [
        ["head_logits"],
        ["block_0", "block_1", "head_logits"],
        ["token_embedding", "block_0", "block_1", "head_logits"],
    ]
    assert len(tuner.history["loss"]) == 3


def test_stages_change_the_learning_rate(model, data, loss):
    tuner = FineTuner(model)
    tuner.compile("adam", loss)
    stages = linear_probe_then_tune(model, probe_learning_rate=0.01, epochs=1)
    tuner.fit_stages(stages, *data, verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.001)


def test_a_stage_that_matches_nothing_is_found_before_the_first_step(model, data, loss):
    tuner = FineTuner(model)
    tuner.compile("adam", loss)
    before = values(model)
    for wrong in (Stage("all", ("heads",)), Stage("all", ("*",), 1, {"heads": 0.1, "*": 0.1})):
        with pytest.raises(ValueError, match="matches no layer"):
            tuner.fit_stages([Stage("head", ("head",)), wrong], *data, verbose=0)
    assert all((a == b).all() for a, b in zip(before, values(model), strict=True))


def test_best_weights_are_restored_by_default_and_early_stopping_can_be_off(model, data, loss):
    x, y = data
    tuner = FineTuner(model)
    tuner.compile("adam", loss, learning_rate=0.05)  # Soon worse on labels that are wrong.
    history = tuner.fit(x, y, validation_data=(x[:9], (y[:9] + 1) % 3), epochs=12, verbose=0)
    best = min(history.history["val_loss"])
    assert history.history["val_loss"][-1] > best
    result = tuner.evaluate(x[:9], (y[:9] + 1) % 3, verbose=0)
    assert result["loss"] == pytest.approx(best, rel=1e-5)
    assert len(history.history["loss"]) < 12
    history = tuner.fit(
        x, y, validation_data=(x[:9], (y[:9] + 1) % 3), epochs=12, early_stopping=False, verbose=0
    )
    assert len(history.history["loss"]) == 12


def test_a_model_that_is_compiled_needs_no_compile(model, data, loss):
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    model.fit(*data, shuffle=False, verbose=0)
    tuner = FineTuner(model)
    tuner.freeze("backbone")
    tuner.fit(*data, shuffle=False, verbose=0)
    assert "accuracy" in tuner.history
    assert int(model.optimizer.iterations) == 4


def test_compile_keeps_the_loss_and_metrics_of_the_model(model, data, loss):
    model.compile("adam", loss, metrics=["accuracy"])
    tuner = FineTuner(model)
    tuner.compile("adamw", learning_rate=1e-3)
    tuner.fit(*data, verbose=0)
    assert set(tuner.history) == {"loss", "accuracy"}


def test_class_and_sample_weights(make_classifier, data, loss):
    x, y = data
    results = []
    for weights in (
        {"class_weight": {0: 1.0, 1: 2.0, 2: 0.5}},
        {"sample_weight": np.array([1.0, 2.0, 0.5])[y]},
    ):
        tuner = FineTuner(make_classifier())
        tuner.compile("sgd", loss, learning_rate=0.1)
        tuner.fit(x, y, shuffle=False, verbose=0, **weights)
        results.append(values(tuner.model))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_sequential_without_an_input_is_built(data, loss):
    model = keras.Sequential(
        [
            keras.layers.Embedding(20, 4, name="embedding"),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(3, name="logits"),
        ]
    )
    tuner = FineTuner(model)
    tuner.compile("adam", loss, learning_rate={"backbone": 1e-4, "head": 1e-3})
    tuner.fit(*data, verbose=0)
    assert model.built


@pytest.mark.parametrize(
    "stages", [[], ["a"], "head", 3, Stage("head", ("head",)), [Stage("head", ("head",)), None]]
)
def test_what_is_no_list_of_stages(model, data, loss, stages):
    tuner = FineTuner(model)
    tuner.compile("adam", loss)
    for call in (
        lambda: tuner.fit_stages(stages, *data, verbose=0),
        lambda: tuner.estimate(*data, stages=stages),
    ):
        with pytest.raises(ValueError, match="Stages are a list"):
            call()
    assert tuner.history == {}


def test_nothing_trainable(model, data, loss):
    tuner = FineTuner(model)
    tuner.compile("adam", loss)
    tuner.freeze("backbone")
    tuner.freeze("head")
    with pytest.raises(ValueError, match="Nothing is trainable"):
        tuner.fit(*data, verbose=0)


def test_calls_in_the_wrong_order(model, data):
    tuner = FineTuner(model)
    with pytest.raises(ValueError, match="Call compile"):
        tuner.fit(*data)
    with pytest.raises(RuntimeError, match="before fit"):
        tuner.evaluate(*data)
    with pytest.raises(ValueError, match="no loss"):
        tuner.compile("adam")
    with pytest.raises(ValueError, match=r"wraps a keras\.Model"):
        FineTuner("bert")


def test_summary_shows_what_trains(model, loss, capsys):
    tuner = FineTuner(model)
    tuner.compile("adam", loss, learning_rate={"backbone": 2e-5, "head": 1e-3})
    tuner.freeze("backbone")
    tuner.unfreeze("backbone", top=1)
    tuner.summary()
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if "│" in line}
    assert " no " in lines["block_0"]
    assert "2e-05" in lines["block_1"]
    assert "0.001" in lines["head_logits"]


def test_predict_and_save(model, data, loss, tmp_path):
    tuner = FineTuner(model)
    tuner.compile("adam", loss)
    tuner.fit(*data, verbose=0)
    path = tuner.save(tmp_path / "models" / "tuned.keras")
    loaded = keras.saving.load_model(path)
    np.testing.assert_array_equal(
        loaded.predict(data[0], verbose=0), tuner.predict(data[0], verbose=0)
    )
    assert getattr(loaded, "optimizer", None) is None
    tuner.fit(*data, verbose=0)  # Saving does not disturb training.


def test_evaluate_explains_what_it_cannot_take(model, data, loss):
    tf = pytest.importorskip("tensorflow")
    tuner = FineTuner(model)
    tuner.compile("sgd", loss)
    tuner.fit(*data, verbose=0)
    x, y = data
    rows = tf.data.Dataset.from_tensor_slices(data)
    for given, message in (
        ((x[:0], y[:0]), "evaluation data is empty. Give at least one row"),
        ((rows.batch(4).take(0),), "evaluation data is empty: a tf.data.Dataset of no batches"),
        ((rows,), r"evaluation data has 'token_ids' of shape \(6,\)\. .*dataset\.batch"),
        ((x,), "evaluation data has no labels"),
        ((), "evaluate needs data"),
    ):
        with pytest.raises(ValueError, match=message):
            tuner.evaluate(*given, verbose=0)
    assert tuner.evaluate(x, np.zeros_like(y), verbose=0)["loss"] > 0  # One class will do.
