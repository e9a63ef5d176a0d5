import re

import keras
import numpy as np
import pytest

from keras_finetune import FineTuner
from keras_finetune.tuning.input_checks import check_inputs, needs_loss

pytestmark = pytest.mark.backends


def two_inputs(as_dict=True, optional=False):
    keras.utils.set_random_seed(0)
    ids = keras.Input((6,), name="token_ids")
    mask = keras.Input((6,), name="padding_mask", optional=optional)
    x = keras.layers.Dense(3, name="head_logits")(ids)
    if not optional:
        x = x + keras.ops.sum(mask, axis=1, keepdims=True)
    return keras.Model({"token_ids": ids, "padding_mask": mask} if as_dict else [ids, mask], x)


ONES = np.ones((12, 6), "float32")
LABELS = np.arange(12) % 3
WRONG = {
    "missing": ({"token_ids": ONES}, "lacks the input 'padding_mask'"),
    "mistyped": (
        {"token_ids": ONES, "pading_mask": ONES},
        r"Received: 'token_ids', 'pading_mask'. Did you mean \"padding_mask\"",
    ),
    "bare": (ONES, r"takes 2 input\(s\), but the training data has 1 of no name. Give a dict"),
    "three": ((ONES, ONES, ONES), "has 3 of no name"),
}


@pytest.mark.parametrize("as_dict", [True, False])
def test_refused_before_the_first_step_and_right_afterwards(loss, as_dict):
    tuner = FineTuner(two_inputs(as_dict))
    tuner.compile("sgd", loss)
    for x, message in WRONG.values():
        with pytest.raises(ValueError, match=message):
            tuner.fit(x, LABELS, verbose=0)
    tuner.fit({"token_ids": ONES, "padding_mask": ONES}, LABELS, verbose=0)
    assert len(tuner.history["loss"]) == 1


def test_what_keras_takes_is_taken():
    for x in (ONES, {"token_ids": ONES}, [ONES]):
        check_inputs("training data", keras.Sequential([keras.Input((6,), name="token_ids")]), x)
    with_more = {"token_ids": ONES, "padding_mask": ONES, "weights": ONES}
    for as_dict in (True, False):
        check_inputs("training data", two_inputs(as_dict), with_more)
        check_inputs("training data", two_inputs(as_dict), (ONES, ONES))
    check_inputs("training data", two_inputs(optional=True), {"token_ids": ONES})


@pytest.mark.parametrize("form", ["arrays", "dataset"])
def test_no_labels(model, data, loss, form):
    x = data[0]
    if form == "dataset":
        tf = pytest.importorskip("tensorflow")
        x = tf.data.Dataset.from_tensor_slices(x).batch(16)
    tuner = FineTuner(model)
    tuner.compile("sgd", loss)
    with pytest.raises(ValueError, match="The training data has no labels"):
        tuner.fit(x, verbose=0)
    with pytest.raises(ValueError, match="The validation data has no labels"):
        tuner.fit(*data, validation_data=x, verbose=0)
    tuner.fit(*data, verbose=0)
    assert len(tuner.history["loss"]) == 1


def test_a_dataset_that_lacks_an_input(loss):
    tf = pytest.importorskip("tensorflow")
    tuner = FineTuner(two_inputs())
    tuner.compile("sgd", loss)
    rows = tf.data.Dataset.from_tensor_slices(({"token_ids": ONES}, LABELS)).batch(4)
    with pytest.raises(ValueError, match="lacks the input 'padding_mask'"):
        tuner.fit(rows, verbose=0)


def test_data_that_was_made_before_the_task_knew_its_backbone():
    ids, segments = (keras.Input((4,), name=name) for name in ("token_ids", "segment_ids"))
    model = keras.Model({"token_ids": ids, "segment_ids": segments}, ids + segments)
    with pytest.raises(ValueError, match="after build: make the data then"):
        check_inputs("training data", model, {"token_ids": ONES})


class Autoencoder(keras.Model):
    """Computes its loss from its inputs alone."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(6)

    def call(self, x):
        return self.dense(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.mean((y_pred - x) ** 2)


def test_a_model_with_a_loss_of_its_own_needs_no_labels():
    tuner = FineTuner(Autoencoder())
    tuner.compile("sgd", "mse")
    tuner.fit(ONES, verbose=0)
    assert len(tuner.history["loss"]) == 1


def functional(width):
    ids = keras.Input((width,), name="features")
    return keras.Model(ids, keras.layers.Dense(3, name="head_logits")(ids))


@pytest.mark.parametrize("kind", ["functional", "sequential"])
@pytest.mark.parametrize("shape", [(12, 5), (12, 6, 6), (12,)])
def test_arrays_of_another_shape(loss, kind, shape):
    model = functional(6)
    tuner = FineTuner(model if kind == "functional" else keras.Sequential(model.layers))
    tuner.compile("sgd", loss)
    x, shown = np.ones(shape, "float32"), re.escape(str(shape))
    with pytest.raises(ValueError, match=rf"\(batch, 6\), but the training data has .* {shown}"):
        tuner.fit(x, LABELS, verbose=0)
    with pytest.raises(ValueError, match=rf"the validation data has .* {shown}"):
        tuner.fit(ONES, LABELS, validation_data=(x, LABELS), verbose=0)


def test_one_of_two_inputs_has_another_shape(loss):
    tuner = FineTuner(two_inputs())
    tuner.compile("sgd", loss)
    with pytest.raises(ValueError, match=r"takes 'padding_mask' of shape \(batch, 6\), but"):
        tuner.fit({"token_ids": ONES, "padding_mask": ONES[:, :5]}, LABELS, verbose=0)


def test_what_is_no_input_of_the_model(loss):
    inputs = {name: keras.Input((6,), name=name) for name in ("b", "c")}
    logits = keras.layers.Dense(3)(keras.layers.Concatenate()(list(inputs.values())))
    tuner = FineTuner(keras.Model(inputs, logits))
    tuner.compile("sgd", loss)
    with pytest.raises(ValueError, match=r"has 'a', which the model does not take\. It takes 'b'"):
        tuner.fit({"a": ONES, "b": ONES, "c": ONES}, LABELS, verbose=0)


def test_a_dataset_without_batches(loss):
    tf = pytest.importorskip("tensorflow")
    tuner = FineTuner(functional(6))
    tuner.compile("sgd", loss)
    with pytest.raises(ValueError, match=r"has 'features' of shape \(6,\).*dataset.batch\(32\)"):
        tuner.fit(tf.data.Dataset.from_tensor_slices((ONES, LABELS)), verbose=0)


def test_shapes_that_keras_takes_are_taken(loss):
    layers = [keras.layers.Embedding(9, 4), keras.layers.GlobalAveragePooling1D()]
    of_tokens = keras.Sequential([keras.Input((6,), dtype="int32"), *layers, keras.layers.Dense(3)])
    for model, x in [(of_tokens, np.ones((12, 4), "int32")), (functional(1), ONES[:, 0])]:
        tuner = FineTuner(model)
        tuner.compile("sgd", loss)
        tuner.fit(x, LABELS, verbose=0)
        assert len(tuner.history["loss"]) == 1


def test_inputs_without_names_are_told_by_their_positions(loss):
    inputs = [keras.Input((6,)), keras.Input((6,))]
    tuner = FineTuner(keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Add()(inputs))))
    tuner.compile("sgd", loss)
    with pytest.raises(ValueError, match=r"takes the second of 2 inputs of shape \(batch, 6\)"):
        tuner.fit([ONES, ONES[:, :5]], LABELS, verbose=0)
    with pytest.raises(ValueError, match=r"has 1 of no name\. Give a list of 2 arrays"):
        tuner.fit(ONES, LABELS, verbose=0)


def test_inputs_in_a_nest(loss):
    a, b, c = (keras.Input((6,), name=name) for name in "abc")
    logits = keras.layers.Dense(3)(keras.layers.Add()([a, b, c]))
    tuner = FineTuner(keras.Model([[a, b], c], logits))
    tuner.compile("sgd", loss)
    with pytest.raises(ValueError, match=r"Give the nest \[\['a', 'b'\], 'c'\]"):
        tuner.fit([ONES, ONES], LABELS, verbose=0)
    tuner.fit([[ONES, ONES], ONES], LABELS, verbose=0)
    assert len(tuner.history["loss"]) == 1


class AddIfThere(keras.layers.Layer):
    def call(self, x, other=None):
        return x if other is None else x + other


@pytest.mark.parametrize("as_dict", [True, False])
def test_an_optional_input_that_is_left_out(loss, as_dict):
    x, other = keras.Input((6,), name="x"), keras.Input((6,), name="other", optional=True)
    logits = keras.layers.Dense(3)(AddIfThere()(x, other))
    tuner = FineTuner(keras.Model({"x": x, "other": other} if as_dict else [x, other], logits))
    tuner.compile("sgd", loss)
    tuner.fit({"x": ONES, "other": None} if as_dict else [ONES, None], LABELS, verbose=0)
    assert len(tuner.history["loss"]) == 1
    wrong = {"x": None, "other": ONES} if as_dict else [None, ONES]
    with pytest.raises(ValueError, match="has None for 'x', which the model needs"):
        tuner.fit(wrong, LABELS, verbose=0)


class AddsLoss(keras.layers.Layer):
    def call(self, x):
        self.add_loss(keras.ops.mean(x**2))
        return x


def test_models_that_need_no_loss_in_compile():
    adding = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2), AddsLoss()])
    for model in (adding, Autoencoder()):
        tuner = FineTuner(model)
        tuner.compile("sgd")
        tuner.fit(ONES, verbose=0)
        assert np.isfinite(tuner.history["loss"]).all()


def test_models_that_need_a_loss_in_compile():
    regularized = keras.layers.Dense(2, activity_regularizer="l2")
    assert needs_loss(functional(6))
    assert not needs_loss(keras.Sequential([keras.Input((6,)), regularized]))
