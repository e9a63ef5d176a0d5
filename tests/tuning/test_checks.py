from pathlib import Path

import keras
import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune import FineTuner
from keras_finetune.tuning import check_fit_data


def weights(model):
    return [np.array(value) for value in model.get_weights()]


WRONG = {
    "empty": (lambda x, y: (x[:0], y[:0]), "is empty"),
    "lengths": (lambda x, y: (x, y[:-1]), "48 rows in x, but 47 in y"),
    "label too high": (lambda x, y: (x, np.where(y == 2, 3, y)), "label 3 in row 2"),
    "label below zero": (lambda x, y: (x, y - 1), "label -1 in row 0"),
    "float labels": (lambda x, y: (x, y + 0.5), "whole number"),
    "NaN labels": (lambda x, y: (x, np.where(y == 1, np.nan, y)), "NaN or infinity in 16 row"),
    "one class": (lambda x, y: (x, np.zeros_like(y)), "Every training label is class 0"),
    "text": (lambda x, y: (np.array(["a"] * 48), y), "Text goes through"),
    "text labels": (lambda x, y: (x, np.array(["a"] * 48, dtype=object)), "Text goes through"),
    "list of text": (lambda x, y: (["a"] * 48, y), "Python list of str"),
    "one-hot for sparse": (lambda x, y: (x, keras.utils.to_categorical(y)), "one-hot labels"),
    "two labels a row": (lambda x, y: (x, np.stack([y, y], 1)), r"labels of shape \(48, 2\)"),
    "no labels": (lambda x, y: (x, None), "has no labels"),
    "token ids": (lambda x, y: (x + 1, y), "token ids from 1 to 20"),
}


@pytest.mark.parametrize("name", WRONG)
def test_refused_before_the_first_step(model, data, loss, name):
    spoil, message = WRONG[name]
    tuner = FineTuner(model)
    tuner.compile("sgd", loss)
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        tuner.fit(*spoil(*data), verbose=0)
    assert all((a == b).all() for a, b in zip(before, weights(model), strict=True))
    assert tuner.history == {}


@pytest.mark.parametrize("name", [name for name in WRONG if name != "one class"])
def test_validation_data_is_checked_as_well(model, data, loss, name):
    spoil, message = WRONG[name]
    tuner = FineTuner(model)
    tuner.compile("sgd", loss)
    with pytest.raises(ValueError, match=message):
        tuner.fit(*data, validation_data=spoil(*data), verbose=0)
    assert tuner.history == {}


def test_rows_that_are_not_encoded_are_refused(model, data, loss):
    tuner = FineTuner(model)
    tuner.compile("sgd", loss)
    rows = kft.data.read({"text": ["a", "b"], "label": [0, 1]})
    for x, called in ((rows, "examples"), ("rows.csv", "'rows.csv'"), (Path("a"), "'a'")):
        for given in ({"x": x}, {"x": data[0], "y": data[1], "validation_data": x}):
            with pytest.raises(ValueError, match=rf"Give task\.dataset\({called}\)"):
                tuner.fit(**given)
            with pytest.raises(ValueError, match=rf"Give task\.dataset\({called}\)"):
                tuner.estimate(**given)


def test_validation_class_unseen_in_training(model, data, loss):
    x, y = data
    with pytest.raises(ValueError, match=r"validation data has the class\(es\) \[2\]"):
        check_fit_data(model, x[y < 2], y[y < 2], (x, y), loss=loss)


def test_a_split_of_rows_that_are_sorted(model, data, loss):
    x, y = data
    tuner = FineTuner(model)
    tuner.compile("adam", loss)
    with pytest.raises(ValueError, match="takes the last rows as they come"):
        tuner.fit(x, np.sort(y), validation_split=0.5, verbose=0)
    with pytest.raises(ValueError, match="not sufficient to split"):
        tuner.fit(x, y, validation_split=0.999, verbose=0)
    tuner.fit(x, y, validation_split=0.5, verbose=0)


def test_what_goes_only_with_arrays(model, data, loss):
    tf = pytest.importorskip("tensorflow")
    x, y = data
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(8)
    with pytest.raises(ValueError, match="validation_split divides arrays"):
        check_fit_data(model, dataset, loss=loss, validation_split=0.5)
    with pytest.raises(ValueError, match="batch_size divides arrays into batches"):
        check_fit_data(model, dataset, loss=loss, batch_size=8)
    with pytest.raises(ValueError, match=r"training data is a data set.* Leave y out"):
        check_fit_data(model, dataset, y, loss=loss)
    with pytest.raises(
        ValueError, match=r"validation data is a data set.* Leave sample_weight out"
    ):
        check_fit_data(model, x, y, (dataset, None, np.ones(48)), loss=loss)


def test_sample_weight(model, data, loss):
    x, y = data
    with pytest.raises(ValueError, match="sample_weight of the training data holds NaN"):
        check_fit_data(model, x, y, None, np.full(48, np.nan), loss=loss)
    with pytest.raises(ValueError, match="sample_weight of the training data is 0 in every row"):
        check_fit_data(model, *data, sample_weight=np.zeros(48), loss=loss)
    with pytest.raises(ValueError, match="47 in sample_weight"):
        check_fit_data(model, x, y, None, np.ones(47), loss=loss)


def test_one_hot_labels(model, data):
    x, y = data
    loss = "categorical_crossentropy"
    check_fit_data(model, x, keras.utils.to_categorical(y), loss=loss)
    with pytest.raises(ValueError, match="expects one-hot labels"):
        check_fit_data(model, x, y, loss=loss)
    with pytest.raises(ValueError, match="Every training label is class 1"):
        check_fit_data(model, x, np.eye(3)[np.ones_like(y)], loss=loss)


def test_binary_labels(data):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    x, y = data
    check_fit_data(model, x, y % 2, loss="binary_crossentropy")
    check_fit_data(model, x, np.full(48, 0.3), loss="binary_crossentropy")  # Soft labels.
    with pytest.raises(ValueError, match="label 2 in row 2"):
        check_fit_data(model, x, y, loss="binary_crossentropy")


def test_regression_takes_floats(data):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    check_fit_data(model, data[0], data[1] + 0.5, loss="mse")


def test_infinite_features():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    x = np.ones((5, 2))
    x[3, 1] = np.inf
    with pytest.raises(ValueError, match="the first is row 3"):
        check_fit_data(model, x, np.ones(5), loss="mse")


def test_no_data(model, loss):
    with pytest.raises(ValueError, match="fit needs data"):
        check_fit_data(model, None, loss=loss)


def test_validation_data_of_one_part(model, data, loss):
    with pytest.raises(ValueError, match="must be"):
        check_fit_data(model, *data, (data[0],), loss=loss)


def test_tf_datasets(model, data, loss):
    tf = pytest.importorskip("tensorflow")
    x, y = data
    good = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    check_fit_data(model, good, None, good, loss=loss)
    wrong = tf.data.Dataset.from_tensor_slices((x, y + 1)).batch(8)
    with pytest.raises(ValueError, match="validation data has the label 3"):
        check_fit_data(model, good, None, wrong, loss=loss)
    with pytest.raises(ValueError, match="Dataset of strings"):
        check_fit_data(model, tf.data.Dataset.from_tensor_slices((["a"], [0])).batch(1), loss=loss)
    of_names = tf.data.Dataset.from_tensor_slices((x, [str(label) for label in y])).batch(8)
    with pytest.raises(ValueError, match="Dataset of strings"):
        check_fit_data(model, of_names, loss=loss)
    with pytest.raises(ValueError, match="no batches"):
        check_fit_data(model, good.take(0), loss=loss)


def test_a_users_training_pipeline_is_not_read_ahead(model, data, loss):
    tf = pytest.importorskip("tensorflow")
    reads = []

    def rows():
        reads.append(1)
        yield from zip(*data, strict=True)

    spec = (tf.TensorSpec((6,), "int32"), tf.TensorSpec((), "int32"))
    dataset = tf.data.Dataset.from_generator(rows, output_signature=spec).batch(8)
    check_fit_data(model, dataset, loss=loss)
    assert reads == []


@pytest.mark.parametrize("mask_dtype", ["bool", "int32"])
def test_token_ids_of_our_models(mask_dtype):
    backbone = kft.models.transformer_encoder(50, 1, 2, 8, max_length=16, num_segments=2)
    model = kft.models.text_classifier(backbone, 2)
    y = np.arange(8) % 2

    def inputs(number, length=10):
        ids = np.full((8, length), number)
        ones = np.ones(ids.shape, mask_dtype)
        return {"token_ids": ids, "padding_mask": ones, "segment_ids": 0 * ids}

    check_fit_data(model, inputs(49), y)
    with pytest.raises(ValueError, match=r"token ids from 60 to 60.*rows 0 to 49"):
        check_fit_data(model, inputs(60), y)
    with pytest.raises(ValueError, match=r"sequences of 20 tokens.*only 16 positions"):
        check_fit_data(model, inputs(1, length=20), y)


def test_losses_that_are_no_crossentropies_are_left_alone():
    linear = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    kft.FineTuner(linear).compile("adam", loss="categorical_hinge")
    soft = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    tuner = kft.FineTuner(soft)
    tuner.compile("adam", loss=keras.losses.CategoricalGeneralizedCrossEntropy())
    history = tuner.fit(np.ones((6, 4)), np.arange(6) % 3, verbose=0)
    assert np.isfinite(history.history["loss"][0])


def test_the_input_of_another_length_is_named():
    inputs = {name: keras.Input((2,), name=name) for name in "ab"}
    model = keras.Model(inputs, keras.layers.Add()(list(inputs.values())))
    x = {"a": np.ones((5, 2)), "b": np.ones((3, 2))}
    with pytest.raises(ValueError, match=r"has 5 rows in x\['a'\], but 3 in x\['b'\]"):
        check_fit_data(model, x, np.ones((5, 2)), loss="mse")


def text_classifier():
    words = keras.layers.TextVectorization(20, output_sequence_length=3, vocabulary=["good", "bad"])
    text = keras.Input((1,), dtype="string")
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(20, 4)(words(text)))
    return keras.Model(text, keras.layers.Dense(2)(x))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow runs on strings")
@pytest.mark.parametrize("form", ["tensor", "dataset", "sequential"])
def test_a_model_that_takes_text(form, loss):
    tf = pytest.importorskip("tensorflow")
    text, y = tf.constant([["good"], ["bad"]] * 4), np.arange(8) % 2
    model = text_classifier()
    if form == "sequential":
        model = keras.Sequential(model.layers[1:])
    tuner = FineTuner(model)
    tuner.compile("sgd", loss)
    if form == "dataset":
        rows = tf.data.Dataset.from_tensor_slices((text, y)).batch(4)
        tuner.fit(rows, validation_data=rows, verbose=0)
    else:
        tuner.fit(text, y, verbose=0)
    assert np.isfinite(tuner.history["loss"]).all()


def test_text_for_a_sequential_model_of_numbers(loss):
    model = keras.Sequential([keras.layers.Embedding(9, 4), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="Text goes through"):
        check_fit_data(model, np.array(["a"] * 4), np.arange(4) % 2, loss=loss)


@pytest.mark.backends
def test_an_empty_pydataset(model, loss):
    class Nothing(keras.utils.PyDataset):
        def __len__(self):
            return 0

    with pytest.raises(ValueError, match="a PyDataset of no batches"):
        check_fit_data(model, Nothing(), loss=loss)


def test_one_hot_labels_out_of_range():
    soft = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    tuner = kft.FineTuner(soft)
    tuner.compile("adam", loss="categorical_crossentropy")
    with pytest.raises(ValueError, match=r"labels from 0.0 to 7.0"):
        tuner.fit(np.ones((6, 4)), 7 * np.eye(3)[np.arange(6) % 3], verbose=0)
