import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

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
