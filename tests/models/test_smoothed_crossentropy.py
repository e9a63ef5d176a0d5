import keras
import numpy as np
import pytest

from keras_finetune.models.smoothed_crossentropy import SmoothedCrossentropy


@pytest.mark.backends
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_equals_keras_on_one_hot_labels(smoothing):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (4, 5, 7)).astype("float32")
    labels = rng.integers(0, 7, (4, 5))
    weight = rng.integers(0, 2, (4, 5)).astype("float32")
    reduction = "mean_with_sample_weight"
    ours = SmoothedCrossentropy(smoothing, reduction)
    theirs = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=smoothing, reduction=reduction
    )
    expected = float(theirs(np.eye(7)[labels], logits, sample_weight=weight))
    assert float(ours(labels, logits, sample_weight=weight)) == pytest.approx(expected, rel=1e-5)


def test_large_logits_are_no_trouble():
    logits = np.array([[[1e4, -1e4, 0.0]]], "float32")
    assert float(SmoothedCrossentropy(0.3)(np.array([[0]]), logits)) == pytest.approx(3000.0)


def test_comes_back_from_its_config():
    loss = SmoothedCrossentropy(0.2, "sum")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is SmoothedCrossentropy
    assert again.get_config() == loss.get_config()


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_out_of_range(smoothing):
    with pytest.raises(ValueError, match=r"label_smoothing must be from 0 to below 1"):
        SmoothedCrossentropy(smoothing)
