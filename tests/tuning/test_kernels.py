import keras
import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune.data import make_plan
from keras_finetune.models.fused import is_fusing, without_xla
from keras_finetune.tuning import kernels
from keras_finetune.tuning.data_kinds import FitData, count_shapes, tokens_per_step
from keras_finetune.tuning.kernels import kernels_worth_compiling, predictions_worth_compiling

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow's kernels are fused"
)
X = np.random.default_rng(0).integers(1, 50, (64, 8)).astype("int32")
Y = np.arange(64) % 2


@keras.saving.register_keras_serializable("keras_finetune_tests")
class Look(keras.layers.Layer):
    """Keeps what holds when a step is traced."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seen = []

    def call(self, inputs, training=None):
        self.seen.append((training, is_fusing()))
        return inputs


def transformer():
    keras.utils.set_random_seed(0)
    backbone = kft.models.transformer_encoder(50, 2, 2, 16, max_length=8, dropout=0.0)
    pooled = keras.layers.GlobalAveragePooling1D()(backbone.output)
    look = Look()
    model = keras.Model(backbone.input, keras.layers.Dense(2)(look(pooled)))
    look.seen.clear()  # Building the model is no run of it.
    return model, look


def inputs():
    return {"token_ids": X, "padding_mask": np.ones_like(X, bool)}


def fusing(model, epochs, before=0, x=None):
    data = FitData(inputs() if x is None else x, Y, None, {"batch_size": 8})
    with kernels_worth_compiling(model, data, epochs, before):
        return is_fusing()


def test_few_steps_are_not_worth_compiling_and_many_are():
    model, _ = transformer()
    assert [fusing(model, epochs) for epochs in (1, 10, 10_000)] == [False, False, True]
    assert [fusing(model, 1, before) for before in (10, 10_000)] == [False, True]
    model.trainable = False  # Forwards only, which takes a third of the time.
    assert [fusing(model, epochs) for epochs in (1_000, 2_000)] == [False, True]


def test_epochs_that_went_and_that_come_do_not_add_up(monkeypatch):
    model, _ = transformer()
    monkeypatch.setattr(kernels, "_NUMBERS_OF_A_SHAPE", 4 * 2 * 166 * 512 / 3)
    found = [fusing(model, epochs, before) for epochs, before in ((3, 3), (4, 1), (1, 4))]
    assert found == [False, True, True]


def test_large_steps_are_worth_it_at_once(monkeypatch):
    model, _ = transformer()
    monkeypatch.setattr(kernels, "_NUMBERS_OF_A_LARGE_STEP", 2 * 166 * 8 * 8 - 1)
    assert fusing(model, 1)
    monkeypatch.setattr(kernels, "_NUMBERS_OF_A_LARGE_STEP", 2 * 166 * 8 * 8 + 1)
    assert not fusing(model, 1)


def test_models_without_blocks_and_data_of_no_length_stay_as_they_are():
    dense = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    assert fusing(dense, 1, x=X)
    model, look = transformer()
    tuner = kft.FineTuner(model)
    tuner.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    tuner.fit((batch for batch in [(inputs(), Y)] * 2), steps_per_epoch=2, verbose=0)
    assert look.seen == [(True, True)]


def test_fits_trace_what_pays_and_later_ones_count_those_before(monkeypatch):
    model, look = transformer()
    tuner = kft.FineTuner(model)
    tuner.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    # 2 blocks of 166 numbers, 512 tokens an epoch, two shapes at most, and another tracing.
    monkeypatch.setattr(kernels, "_NUMBERS_OF_A_SHAPE", 2 * 2 * 166 * 512 / 3)
    for expected in ([(True, False)], [], [(True, True)], []):
        look.seen.clear()
        tuner.fit(inputs(), Y, batch_size=8, verbose=0)
        assert look.seen == expected


def test_what_is_compiled_stays_so_for_other_data(monkeypatch):
    model, look = transformer()
    tuner = kft.FineTuner(model)
    tuner.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    monkeypatch.setattr(kernels, "_NUMBERS_OF_A_LARGE_STEP", 2 * 166 * 8 * 8)
    for rows in (8, 7):
        tuner.fit(inputs(), Y, batch_size=rows, verbose=0)
    assert set(look.seen) == {(True, True)}
    look.seen.clear()
    for rows in (8, 7):
        tuner.fit(inputs(), Y, batch_size=rows, verbose=0)
    assert not look.seen


def test_both_train_alike(monkeypatch):
    losses = []
    for numbers in (0, 1e18):
        monkeypatch.setattr(kernels, "_NUMBERS_OF_A_SHAPE", numbers)
        model, look = transformer()
        tuner = kft.FineTuner(model)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        tuner.compile(keras.optimizers.SGD(0.1), loss)
        losses.append(tuner.fit(inputs(), Y, epochs=3, verbose=0).history["loss"])
        assert look.seen == [(True, numbers == 0)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def plan_of(rows):
    return make_plan(np.full(rows, 8), 8, shuffle=False)


def predict(model, rows):
    with predictions_worth_compiling(model, plan_of(rows)):
        return model.predict({name: x[:rows] for name, x in inputs().items()}, 8, verbose=0)


def test_few_predictions_are_traced_plain_and_many_are_not(monkeypatch):
    model, look = transformer()
    # 2 blocks of 166 numbers, 8 tokens a row: 16 rows pay.
    monkeypatch.setattr(kernels, "_NUMBERS_OF_A_PREDICTED_SHAPE", 2 * 166 * 8 * 16)
    for rows, expected in ((8, False), (16, True)):
        found = predict(model, rows)
        assert set(look.seen) == {(False, expected)}
        look.seen.clear()
        with without_xla():
            exact = model({k: x[:rows] for k, x in inputs().items()})
        np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5)
        look.seen.clear()
    for rows in (8, 16, 8):  # Both were kept.
        predict(model, rows)
    assert not look.seen
    model.compile("sgd", "mse")
    predict(model, 8)
    predict(model, 16)
    assert {fused for _, fused in look.seen} == {False, True}


def test_compile_within_a_prediction_holds():
    model, _ = transformer()
    compiling = keras.callbacks.LambdaCallback(
        on_predict_end=lambda _: model.compile("sgd", "mse", run_eagerly=True)
    )
    with predictions_worth_compiling(model, plan_of(8)):
        model.predict(inputs(), callbacks=[compiling], verbose=0)
    assert model.predict_function is None


def test_predictions_that_are_not_planned_stay_as_they_are():
    model, look = transformer()
    with predictions_worth_compiling(model, None):
        model.predict(inputs(), verbose=0)
    assert set(look.seen) == {(False, True)}
    with predictions_worth_compiling(keras.Sequential([keras.layers.Dense(2)]), plan_of(8)):
        assert is_fusing()


def test_tasks_and_the_tuner_predict_few_texts_plain():
    texts = ["a b c " * n for n in range(1, 9)]
    tokenizer = kft.data.Tokenizer.train(texts, vocab_size=300, progress=False)
    task = kft.tasks.TextClassification(["x", "y"], tokenizer, max_length=32)
    backbone = kft.models.transformer_encoder(tokenizer.vocab_size, 2, 2, 16, max_length=32)
    look = Look()
    symbol = look(backbone.output)
    model = task.build(keras.Model(backbone.input, symbol))
    look.seen.clear()
    task.predict(model, texts)
    data = task.dataset({"text": texts, "label": ["x", "y"] * 4}, shuffle=False)
    kft.FineTuner(model).predict(data, verbose=0)
    assert set(look.seen) == {(False, False)}


def test_questions_are_answered_plain():
    texts = ["The sky is blue. The grass is green."]
    tokenizer = kft.data.Tokenizer.train(texts, vocab_size=300, progress=False)
    task = kft.tasks.QuestionAnswering(tokenizer, max_length=32, stride=8)
    backbone = kft.models.transformer_encoder(tokenizer.vocab_size, 2, 2, 16, max_length=32)
    look = Look()
    symbol = look(backbone.output)
    model = task.build(keras.Model(backbone.input, symbol))
    look.seen.clear()
    task.predict(model, [{"question": "What is blue?", "context": texts[0]}])
    assert set(look.seen) == {(False, False)}


def test_shapes():
    tf = pytest.importorskip("tensorflow")
    assert count_shapes(X, {"batch_size": 8}) == 2
    assert count_shapes(X, {"batch_size": 64}) == 1
    rows = tf.data.Dataset.from_tensor_slices((X, Y))
    assert count_shapes(rows.batch(8), {}) == 2
    assert count_shapes(rows.batch(8).map(lambda x, y: (x, y, None)), {}) == 2
    assert count_shapes(rows.batch(8).map(lambda x, y: (x[:, : y[0] + 1], y)), {}) == 8
    unknown = tf.data.Dataset.from_generator(lambda: iter([]), (tf.int32, tf.int64))
    assert count_shapes(unknown, {"steps_per_epoch": 30}) == 24
    assert tokens_per_step(unknown, {}) == 32
    texts = ["a b c " * n for n in range(1, 33)]
    tokenizer = kft.data.Tokenizer.train(texts, vocab_size=300, progress=False)
    task = kft.tasks.TextClassification(["x", "y"], tokenizer, max_length=32)
    data = task.dataset({"text": texts, "label": ["x", "y"] * 16}, batch_size=5)
    assert count_shapes(data, {}) == len({x.shape for x in [b["token_ids"] for b, _ in data]})
