import keras
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from keras_finetune import FineTuner
from keras_finetune.tuning import balanced_class_weight
from keras_finetune.tuning.class_weight import resolve_class_weight


def test_agrees_with_scikit_learn():
    labels = np.random.default_rng(0).choice(4, 500, p=[0.7, 0.2, 0.09, 0.01])
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    assert list(balanced_class_weight(labels).values()) == pytest.approx(list(expected))
    assert balanced_class_weight(np.eye(4)[labels]) == balanced_class_weight(labels)
    assert balanced_class_weight(labels[:, None]) == balanced_class_weight(labels)


def test_a_class_that_does_not_occur_weighs_one():
    assert balanced_class_weight([0, 2], num_classes=4) == {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}


def test_resolved_from_arrays_counts_or_a_dict():
    counted = type("Data", (), {"label_counts": np.array([3, 1])})()
    expected = {0: pytest.approx(2 / 3), 1: 2.0}
    assert resolve_class_weight("balanced", counted, None) == expected
    assert resolve_class_weight("balanced", np.zeros(4), np.array([0, 0, 0, 1])) == expected
    assert resolve_class_weight({0: 1.5}, None, None) == {0: 1.5}
    assert resolve_class_weight(None, None, None) is None


def test_refused():
    with pytest.raises(ValueError, match="needs labels"):
        balanced_class_weight([])
    with pytest.raises(ValueError, match="does not say"):
        resolve_class_weight("balanced", iter([]), None)
    with pytest.raises(ValueError, match='or "balanced"'):
        resolve_class_weight("ballanced", None, None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"0": 1.0, "1": 2.0}, "from class, an int from 0 to 1, to weight. .* the class '0'"),
        ({0: 1.0, 2: 2.0}, "Received the class 2"),
        ({-1: 1.0}, "Received the class -1"),
        ({0: -1.0}, "must be a number of at least 0. Received: class_weight={0: -1.0"),
        ({0: float("nan")}, "must be a number of at least 0"),
        ({0: 1.0, 1: None}, "must be a number of at least 0"),
        ([1.0, 2.0], "must be a dict"),
    ],
)
def test_weights_that_keras_would_leave_aside(wrong, message):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid")])
    tuner = FineTuner(model)
    tuner.compile("sgd", "binary_crossentropy")
    with pytest.raises(ValueError, match=message):
        tuner.fit(np.ones((8, 4)), np.arange(8) % 2, class_weight=wrong, verbose=0)
    assert tuner.history == {}


def test_any_whole_number_is_a_class():
    given = {np.int64(0): np.float32(2.0), 1.0: 3}
    assert resolve_class_weight(given, None, None) == {0: 2.0, 1: 3.0}
