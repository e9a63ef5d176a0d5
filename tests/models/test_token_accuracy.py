import numpy as np
import pytest

from keras_finetune.models.token_accuracy import TokenAccuracy

pytestmark = pytest.mark.backends


def test_is_the_share_of_weighted_tokens_whatever_the_width():
    rng = np.random.default_rng(0)
    accuracy, right, total = TokenAccuracy(), 0.0, 0.0
    for width in (3, 11, 6):
        labels = rng.integers(0, 4, (5, width))
        scores = rng.normal(size=(5, width, 4)).astype("float32")
        weights = rng.integers(0, 3, (5, width)).astype("float32")
        accuracy.update_state(labels, scores, weights)
        right += ((scores.argmax(-1) == labels) * weights).sum()
        total += weights.sum()
    np.testing.assert_allclose(float(accuracy.result()), right / total, rtol=1e-6)


def test_a_weight_for_each_row_counts_for_its_tokens():
    accuracy = TokenAccuracy()
    scores = np.array([[[0.0, 1.0]] * 3] * 2, "float32")
    accuracy.update_state(np.array([[1, 1, 0], [0, 0, 0]]), scores, np.array([[1.0], [2.0]]))
    np.testing.assert_allclose(float(accuracy.result()), 2 / 9, rtol=1e-6)
