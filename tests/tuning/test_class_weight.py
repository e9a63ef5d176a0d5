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


def test_labels_that_a_loss_ignores_do_not_count():
    assert balanced_class_weight([0, -1, 0, 0, 1]) == balanced_class_weight([0, 0, 0, 1])


def test_resolved_from_arrays_counts_or_a_dict():
    counted = type("Data", (), {"label_counts": np.array([3, 1])})()
    expected = {0: pytest.approx(2 / 3), 1: 2.0}
    assert resolve_class_weight("balanced", counted, None) == expected
    assert resolve_class_weight("balanced", np.zeros(4), np.array([0, 0, 0, 1])) == expected
    assert resolve_class_weight({0: 1.5}, None, None) == {0: 1.5}
    assert resolve_class_weight({1: 1.5}, None, None, 3) == {0: 1.0, 1: 1.5, 2: 1.0}
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
        ({0: 0, 1: 0.0}, "class_weight is 0 for every class"),
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


@pytest.mark.parametrize("class_weight", ["balanced", {0: 1.0, 1: 3.0}])
def test_labels_may_come_as_a_list_of_one_output(class_weight):
    x, y = np.eye(8, 4, dtype="float32"), np.array([0, 0, 0, 0, 0, 0, 1, 1])
    losses = []
    for labels in (y, [y]):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid")])
        tuner = FineTuner(model)
        tuner.compile("sgd", "binary_crossentropy")
        tuner.fit(x, labels, class_weight=class_weight, shuffle=False, verbose=0)
        losses += tuner.history["loss"]
    assert losses[0] == pytest.approx(losses[1])


def test_any_whole_number_is_a_class():
    given = {np.int64(0): np.float32(2.0), 1.0: 3}
    assert resolve_class_weight(given, None, None) == {0: 2.0, 1: 3.0}


def test_rows_of_several_classes_have_no_balanced_weights():
    with pytest.raises(ValueError, match="rows of one class each"):
        balanced_class_weight(np.array([[1, 1, 0], [0, 0, 1]]))


def test_a_class_left_out_counts_once_when_activations_are_kept():
    """From a data set Keras fails on it, and kept activations come from one."""
    x, y = np.random.default_rng(0).normal(size=(24, 4)).astype("float32"), np.arange(24) % 3
    found = []
    for cache_frozen in (False, True):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(5, trainable=False), keras.layers.Dense(3, "softmax")]
        tuner = FineTuner(keras.Sequential([keras.Input((4,)), *layers]))
        tuner.compile("sgd", "sparse_categorical_crossentropy")
        history = tuner.fit(
            x, y, class_weight={0: 5.0}, cache_frozen=cache_frozen, shuffle=False, verbose=0
        )
        found.append(history.history["loss"][0])
    assert found[0] == pytest.approx(found[1], rel=1e-5)
