import keras
import pytest

from keras_finetune.tuning import check_loss


def model(activation):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation=activation)])


@pytest.mark.parametrize(
    "loss",
    [
        "categorical_crossentropy",
        keras.losses.SparseCategoricalCrossentropy(),
        keras.losses.BinaryCrossentropy(),
    ],
)
def test_probabilities_expected(loss):
    with pytest.raises(ValueError, match="from_logits=True"):
        check_loss(model(None), loss)
    check_loss(model("softmax"), loss)


def test_logits_expected():
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    with pytest.raises(ValueError, match="gives probabilities"):
        check_loss(model("softmax"), loss)
    check_loss(model(None), loss)


def test_other_losses_are_not_judged():
    check_loss(model(None), "mse")
    check_loss(model(None), keras.losses.Huber())
    check_loss(model(None), lambda y_true, y_pred: y_pred)
