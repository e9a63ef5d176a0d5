"""Labels of several outputs, and of positions, are checked as those of one output are."""

import keras
import numpy as np
import pytest

from keras_finetune import FineTuner
from keras_finetune.tuning import check_fit_data, check_loss
from keras_finetune.tuning.label_pairs import pair_labels, pair_losses

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
X = np.ones((8, 4), "float32")
KINDS, SIZES = np.arange(8) % 2, np.ones((8, 1), "float32")


def two_outputs(as_dict=True):
    x = keras.Input((4,))
    kind, size = keras.layers.Dense(2, name="kind")(x), keras.layers.Dense(1, name="size")(x)
    return keras.Model(x, {"kind": kind, "size": size} if as_dict else [kind, size])


def tagger(mask_zero=False, num_classes=3):
    ids = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(9, 4, mask_zero=mask_zero)(ids)
    return keras.Model(ids, keras.layers.Dense(num_classes)(x))


class OneBatch(keras.utils.PyDataset):
    def __init__(self, *batch):
        super().__init__()
        self.batch = batch

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.batch


@pytest.mark.parametrize("as_dict", [True, False])
@pytest.mark.parametrize("loss", [{"kind": SPARSE, "size": "mse"}, [SPARSE, "mse"], (SPARSE, None)])
@pytest.mark.parametrize("form", ["dict", "list"])
def test_what_keras_pairs(as_dict, loss, form):
    labels = {"kind": KINDS, "size": SIZES} if form == "dict" else [KINDS, SIZES]
    targets = pair_labels("training data", two_outputs(as_dict), loss, labels)
    second = [] if isinstance(loss, tuple) else [("size", "mse")]
    assert [(each.name, each.loss) for each in targets] == [("kind", SPARSE), *second]
    assert targets[0].labels is KINDS


def test_one_loss_for_all_outputs_and_some_without():
    model = two_outputs()
    assert [each.loss for each in pair_losses(model, "mse")] == ["mse", "mse"]
    assert [each.loss for each in pair_losses(model, {"size": "mse"})] == [None, "mse"]
    check_fit_data(model, X, {"size": SIZES}, loss={"size": "mse"})
    # Keras takes as many labels as there are losses, whatever they are called.
    check_fit_data(model, X, {"other": SIZES}, loss={"size": "mse"})


@pytest.mark.backends
@pytest.mark.parametrize("form", ["arrays", "PyDataset", "validation PyDataset"])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"kind": KINDS + 5, "size": SIZES}, "output 'kind' has the label 5 in row 0"),
        ([KINDS, np.ones((8, 3))], r"output 'size' has labels of shape \(8, 3\)"),
        ({"kid": KINDS, "size": SIZES}, "'kind', 'size'. Give .* Did you mean \"kind\""),
        ({"size": SIZES}, "for 'size', but the model has the outputs 'kind', 'size'"),
    ],
)
def test_wrong_labels_of_several_outputs(form, labels, message):
    tuner = FineTuner(two_outputs())
    tuner.compile("sgd", {"kind": SPARSE, "size": "mse"})
    good = {"kind": KINDS, "size": SIZES}
    arguments = {"x": X, "y": labels} if form == "arrays" else {"x": OneBatch(X, labels)}
    if form == "validation PyDataset":
        arguments = {"x": X, "y": good, "validation_data": OneBatch(X, labels)}
    with pytest.raises(ValueError, match=message):
        tuner.fit(**arguments, verbose=0)
    assert tuner.history == {}


def test_wrong_losses_of_several_outputs():
    with pytest.raises(ValueError, match=r"outputs 'kind', 'size'\. Did you mean .kind"):
        check_loss(two_outputs(), {"kid": SPARSE, "size": "mse"})
    with pytest.raises(ValueError, match="lack the output 'size'"):
        check_loss(two_outputs(as_dict=False), {"kind": SPARSE})
    check_loss(two_outputs(), {"kind": SPARSE})
    with pytest.raises(ValueError, match="the output 'kind' gives logits"):
        check_loss(two_outputs(), ["sparse_categorical_crossentropy", "mse"])


def test_a_dict_of_labels_for_one_output():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="a dict of labels, 'kind', but the model has one output"):
        check_fit_data(model, X, {"kind": KINDS}, loss=SPARSE)


def test_a_tf_dataset_with_two_outputs():
    tf = pytest.importorskip("tensorflow")
    tuner = FineTuner(two_outputs(as_dict=False))
    tuner.compile("sgd", [SPARSE, "mse"])
    data = tf.data.Dataset.from_tensor_slices((X, (KINDS, SIZES))).batch(4)
    tuner.fit(data, validation_data=data, verbose=0)
    assert len(tuner.history["val_loss"]) == 1
    wrong = tf.data.Dataset.from_tensor_slices((X, (KINDS + 1, SIZES))).batch(4)
    with pytest.raises(ValueError, match="validation data of the output 'kind' has the label 2"):
        tuner.fit(data, validation_data=wrong, verbose=0)


@pytest.mark.backends
def test_classes_of_positions():
    model, ids = tagger(), np.ones((8, 5), "int32")
    labels = ids % 3
    check_fit_data(model, ids, labels, loss=SPARSE)
    check_fit_data(model, ids, labels[..., None], loss=SPARSE)
    labels[2, 3] = 7
    with pytest.raises(ValueError, match=r"label 7 in row 2, position 3, but .* classes 0 to 2"):
        check_fit_data(model, ids, labels, loss=SPARSE)
    with pytest.raises(ValueError, match=r"shape \(rows, 5\): a class for each vector of 3 scores"):
        check_fit_data(model, ids, labels[:, 0], loss=SPARSE)
    ignoring = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=7)
    check_fit_data(model, ids, labels, loss=ignoring)


@pytest.mark.backends
def test_sequences_of_another_length_than_the_input_says():
    layers = [keras.layers.Embedding(9, 4), keras.layers.Dense(3)]
    tuner = FineTuner(keras.Sequential([keras.Input((6,), dtype="int32"), *layers]))
    tuner.compile("sgd", SPARSE)
    tuner.fit(np.ones((8, 4), "int32"), np.ones((8, 4), "int32"), verbose=0)
    assert len(tuner.history["loss"]) == 1


@pytest.mark.backends
@pytest.mark.parametrize("label", [-1, -100])
@pytest.mark.parametrize("masked", [True, False])
def test_positions_that_keras_leaves_out(label, masked):
    ids = np.array([[1, 2, 3, 0, 0]] * 8, "int32")
    labels = np.where(ids > 0, ids % 3, label)
    weights = None if masked else (ids > 0).astype("float32")
    tuner = FineTuner(tagger(mask_zero=masked))
    tuner.compile("sgd", SPARSE)
    # The cross-entropies of the others fail there.
    if (keras.backend.backend(), label) in [("jax", -1), ("jax", -100), ("torch", -100)]:
        tuner.fit(ids, labels, sample_weight=weights, verbose=0)
        assert np.isfinite(tuner.history["loss"]).all()
    else:
        with pytest.raises(ValueError, match=f"label {label} in row 0, position 3"):
            tuner.fit(ids, labels, sample_weight=weights, verbose=0)


def test_the_row_of_a_wrong_label_counts_ignored_ones():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    with pytest.raises(ValueError, match="label 5 in row 3"):
        check_fit_data(model, X, np.array([-1, 0, 1, 5, 0, 1, 0, 1]), loss=loss)
