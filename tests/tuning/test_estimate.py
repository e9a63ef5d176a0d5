import time

import keras
import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune.tuning.estimate import Estimate, StageEstimate

WORDS = ["quick", "brown", "fox", "jumps", "over", "lazy", "dog", "sleeps", "all", "day", "long"]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.choice([5, 28]))) for _ in range(512)]
    return {"text": texts, "label": ["short" if len(t) < 80 else "long" for t in texts]}


@pytest.fixture(scope="module")
def task(rows):
    tokenizer = kft.data.Tokenizer.train(rows["text"], vocab_size=300, progress=False)
    return kft.tasks.TextClassification(["long", "short"], tokenizer, max_length=64)


def tuner_for(task, width):
    keras.utils.set_random_seed(0)
    backbone = kft.models.transformer_encoder(task.tokenizer.vocab_size, 1, 4, width, max_length=64)
    return kft.FineTuner(task.build(backbone))


def small_tuner(task):
    keras.utils.set_random_seed(0)
    backbone = kft.models.ngram_encoder(
        task.tokenizer.vocab_size, hidden_dim=8, num_buckets=99, dropout=0.1
    )
    return kft.FineTuner(task.build(backbone))


def first(rows, count):
    return {name: values[:count] for name, values in rows.items()}


def state(tuner):
    weights = [keras.ops.convert_to_numpy(v) for v in tuner.model.variables]
    return weights, [layer.trainable for layer in tuner.model._flatten_layers()]


def test_the_model_stays_as_it_was(task, rows):
    tuner, rows = small_tuner(task), first(rows, 96)
    data = task.dataset(rows, batch_size=16)
    tuner.fit(data, epochs=1, verbose=0)
    before, iterations = state(tuner), int(tuner.model.optimizer.iterations)
    epoch = data.epochs.next
    stages = kft.gradual_unfreezing(tuner.model)[::-1]  # So that not all trains at the end.
    found = tuner.estimate(data, stages=stages, validation_data=task.dataset(rows, shuffle=False))
    assert [x.name for x in found.stages] == [stage.name for stage in stages]
    for one, other in zip(before[0], state(tuner)[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert before[1] == state(tuner)[1]
    assert len(tuner.history["loss"]) == 1
    assert data.epochs.next == epoch
    tuner.fit(data, epochs=1, verbose=0)
    assert int(tuner.model.optimizer.iterations) == 2 * iterations  # Its state went on.


def test_the_order_of_arrays_stays_as_it_was():
    layers = [keras.layers.Dense(3, trainable=False), keras.layers.Dense(2, "softmax")]
    tuner = kft.FineTuner(keras.Sequential([keras.Input((4,)), *layers]))
    tuner.compile("adam", "sparse_categorical_crossentropy")
    np.random.seed(0)
    expected = np.random.random()
    np.random.seed(0)
    tuner.estimate(np.ones((32, 4), "float32"), np.arange(32) % 2, epochs=2)
    assert np.random.random() == expected


def test_a_run_with_an_estimate_is_the_run_without(task, rows):
    losses = []
    for estimates in (False, True):
        tuner = small_tuner(task)
        data = task.dataset(first(rows, 64), batch_size=16)
        if estimates:
            tuner.estimate(data)
        losses.append(tuner.fit(data, epochs=2, verbose=0).history["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_time_and_padding_are_what_then_happens(task, rows):
    """Loosely: other processes may take the processor meanwhile."""
    tuner = tuner_for(task, width=128)
    data = task.dataset(rows, batch_size=16)
    found = tuner.estimate(data, epochs=3)
    assert found.padding_share == data.plan(0).padding_share
    tuner.fit(data, epochs=1, verbose=0)
    started = time.perf_counter()
    tuner.fit(data, epochs=3, verbose=0)
    took = time.perf_counter() - started
    assert took / 3 < found.seconds - found.stages[0].start_seconds < took * 3
    assert 0.05 < found.peak_memory_gb < 16
    assert found.cache_gb == 0


def test_frozen_layers_are_in_the_cache(task, rows):
    tuner = tuner_for(task, width=64)
    tuner.freeze("embeddings")
    data = task.dataset(rows, batch_size=16)
    (kept,) = tuner.estimate(data, epochs=4, cache_frozen=True).stages
    assert kept.cache_seconds > 0
    tokens = data.plan(0).lengths.sum()
    assert kept.cache_gb == pytest.approx(tokens * 64 * 4 / 1e9, rel=0.2)
    for arguments in ({"cache_frozen": False}, {"frozen_dropout": True, "callbacks": []}):
        (ran,) = tuner.estimate(data, epochs=4, **arguments).stages
        assert ran.cache_seconds == ran.cache_gb == 0


@pytest.mark.backends
def test_arrays_and_tf_data(rows):
    import tensorflow as tf

    x = np.random.default_rng(0).normal(size=(400, 8)).astype("float32")
    y = np.arange(400) % 2
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(2)])
    tuner = kft.FineTuner(model)
    tuner.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for data in [(x, y), (tf.data.Dataset.from_tensor_slices((x, y)).batch(8), None)]:
        found = tuner.estimate(*data, epochs=2)
        assert found.padding_share is None
        assert 0 < found.seconds < 60
    (rest,) = tuner.estimate(x, y, epochs=5, initial_epoch=3).stages
    assert rest.epochs == 2


def test_data_of_unknown_size_is_refused():
    import tensorflow as tf

    x = np.zeros((40, 8), "float32")
    data = tf.data.Dataset.from_tensor_slices((x, np.zeros(40))).batch(8).filter(lambda x, y: True)
    tuner = kft.FineTuner(keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)]))
    tuner.compile("sgd", "mse")
    with pytest.raises(ValueError, match="does not say how many steps an epoch has"):
        tuner.estimate(data)


def test_a_table_shows_it(capsys):
    import rich

    stage = StageEstimate("[head]", 2, 75.0, 5.0, 10.0, 80.5, 1.25, 0.04)
    whole = Estimate((stage, stage), 0.1)
    assert (whole.seconds, whole.peak_memory_gb, whole.cache_gb) == (150.0, 1.25, 0.04)
    rich.print(whole)
    shown = capsys.readouterr().out
    for part in ("[head]", "75 s", "1.25 GB", "0.04 GB", "10% of the computed tokens"):
        assert part in shown
