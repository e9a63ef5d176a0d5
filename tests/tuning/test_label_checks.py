import keras
import numpy as np
import pytest

from keras_finetune import FineTuner
from keras_finetune.tuning import check_loss
from keras_finetune.tuning.label_checks import check_label_shape


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


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_a_linear_activation_after_the_last_layer_changes_nothing(activation):
    linear = keras.layers.Activation("linear", dtype="float32")
    longer = keras.Sequential([*model(activation).layers, linear])
    longer.build((None, 4))
    losses = [keras.losses.CategoricalCrossentropy(from_logits=x) for x in (True, False)]
    right, wrong = losses if activation is None else losses[::-1]
    check_loss(longer, right)
    with pytest.raises(ValueError, match="from_logits=True"):
        check_loss(longer, wrong)


def sparse_categorical_crossentropy_of_some(y_true, y_pred):
    """-1: no label."""
    counts = keras.ops.cast(y_true >= 0, "float32")
    y_true = keras.ops.maximum(y_true, 0)
    return counts * keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)


class SparseCategoricalFromLogits(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)


def binary_crossentropy(y_true, y_pred):
    """Weights of the outputs lie beside the labels."""
    return keras.losses.binary_crossentropy(y_true[:, :2], y_pred, from_logits=True) * y_true[:, 2]


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        (sparse_categorical_crossentropy_of_some, np.arange(8) % 3 - 1),
        (SparseCategoricalFromLogits(), np.arange(8) % 2),
        (binary_crossentropy, np.ones((8, 3), "float32")),
    ],
)
def test_losses_of_the_users_own_are_not_judged_by_their_names(loss, labels):
    tuner = FineTuner(model(None))
    tuner.compile("sgd", loss)
    tuner.fit(np.ones((8, 4), "float32"), labels, verbose=0)
    assert np.isfinite(tuner.history["loss"][0])


def test_other_losses_are_not_judged():
    check_loss(model(None), "mse")
    check_loss(model(None), keras.losses.Huber())
    check_loss(model(None), lambda y_true, y_pred: y_pred)


@pytest.mark.parametrize("loss", ["mse", "binary_crossentropy", keras.losses.Huber()])
@pytest.mark.parametrize("form", ["flat", "column", "dataset"])
def test_class_numbers_are_not_spread_over_the_outputs(loss, form):
    x, y = np.ones((8, 4), "float32"), np.arange(8) % 2
    arguments = (x, y if form == "flat" else y[:, None])
    if form == "dataset":
        tf = pytest.importorskip("tensorflow")
        arguments = (tf.data.Dataset.from_tensor_slices((x, y)).batch(2),)
    tuner = FineTuner(model("sigmoid"))
    tuner.compile("sgd", loss)
    with pytest.raises(ValueError, match="use the loss sparse_categorical_crossentropy"):
        tuner.fit(*arguments, verbose=0)
    assert tuner.history == {}


@pytest.mark.parametrize(
    ("output", "shape"),
    [
        *(((None, 3), (8, 3)), ((None, 3), (8, 3, 1)), ((None, 1), (8,))),
        *(((None, 1), (8, 1)), ((None, 3), (8, None)), (None, (8,))),
    ],
)
def test_shapes_that_keras_compares(output, shape):
    check_label_shape("training data", "mse", output, shape)


def test_a_loss_of_the_users_own_may_take_classes_under_a_known_name():
    def poisson(y_true, y_pred):
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred)

    check_label_shape("training data", poisson, (None, 3), (8,))
    with pytest.raises(ValueError, match="The loss poisson compares"):
        check_label_shape("training data", keras.losses.poisson, (None, 3), (8,))


@pytest.mark.parametrize(
    ("loss", "labels", "message"),
    [
        ("categorical_crossentropy", np.arange(8) % 2, "expects one-hot labels"),
        ("sparse_categorical_crossentropy", np.eye(2)[np.arange(8) % 2], "expects integer labels"),
    ],
)
def test_the_labels_of_a_dataset(loss, labels, message):
    tf = pytest.importorskip("tensorflow")
    rows = tf.data.Dataset.from_tensor_slices((np.ones((8, 4), "float32"), labels)).batch(2)
    tuner = FineTuner(model("softmax"))
    tuner.compile("sgd", loss)
    with pytest.raises(ValueError, match=message):
        tuner.fit(rows, verbose=0)


def test_a_class_that_the_loss_ignores():
    x, y = np.ones((8, 4), "float32"), np.array([0, 1, -1, 0, 1, -1, 0, 1])
    tuner = FineTuner(model("softmax"))
    tuner.compile("sgd", keras.losses.SparseCategoricalCrossentropy(ignore_class=-1))
    tuner.fit(x, y, verbose=0)
    assert len(tuner.history["loss"]) == 1
    with pytest.raises(ValueError, match="training data are -1, which the loss ignores"):
        tuner.fit(x, np.full(8, -1), verbose=0)
