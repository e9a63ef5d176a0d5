import keras
import numpy as np
import pytest
from sklearn.metrics import f1_score

from keras_finetune.evaluation import F1Score

pytestmark = pytest.mark.backends


def batches(seed=0, rows=90, classes=4):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    logits = rng.normal(size=(rows, classes)).astype("float32")
    logits[np.arange(rows), labels] += 1
    return labels, logits


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_integer_labels_over_batches(average):
    labels, logits = batches()
    metric = F1Score(4, average=average)
    for part in np.array_split(np.arange(90), 4):
        metric.update_state(labels[part], logits[part])
    expected = f1_score(labels, logits.argmax(1), average=average)
    assert float(metric.result()) == pytest.approx(expected, abs=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0.0


def test_keras_own_takes_no_integer_labels():
    labels, logits = batches()
    with pytest.raises(Exception):  # noqa: B017, PT011  (each backend raises its own)
        keras.metrics.F1Score(average="macro").update_state(labels, keras.ops.softmax(logits))


def test_one_hot_and_column_labels_are_the_same():
    labels, logits = batches()
    results = set()
    for given in (labels, labels[:, None], np.eye(4)[labels]):
        metric = F1Score(4)
        metric.update_state(given, logits)
        results.add(round(float(metric.result()), 6))
    assert len(results) == 1


def test_sample_weight():
    labels, logits = batches()
    weight = np.random.default_rng(1).random(90)
    metric = F1Score(4)
    metric.update_state(labels, logits, sample_weight=weight)
    expected = f1_score(labels, logits.argmax(1), average="macro", sample_weight=weight)
    assert float(metric.result()) == pytest.approx(expected, abs=1e-5)


def test_several_labels():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (30, 3))
    logits = rng.normal(size=(30, 3)).astype("float32")
    metric = F1Score(3, multi_label=True)
    metric.update_state(labels, logits)
    expected = f1_score(labels, logits > 0, average="macro")
    assert float(metric.result()) == pytest.approx(expected, abs=1e-6)


def test_in_a_model():
    labels, logits = batches()
    model = keras.Sequential([keras.Input((4,)), keras.layers.Identity()])
    model.compile(loss="mse", metrics=[F1Score(4, name="macro_f1")])
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(4, kernel_initializer="identity")(inputs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=[F1Score(4, name="macro_f1")])
    found = model.evaluate(logits, labels, batch_size=16, verbose=0, return_dict=True)
    expected = f1_score(labels, logits.argmax(1), average="macro")
    assert found["macro_f1"] == pytest.approx(expected, abs=1e-6)


def test_round_trip():
    metric = F1Score(3, average="weighted", multi_label=True, threshold=0.5, name="mine")
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert again.get_config() == metric.get_config()


def test_refused():
    with pytest.raises(ValueError, match="average must be one of"):
        F1Score(3, average="mean")
    with pytest.raises(ValueError, match="num_classes"):
        F1Score(0)
