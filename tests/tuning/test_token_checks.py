import keras
import numpy as np
import pytest

from keras_finetune import models
from keras_finetune.tuning.token_checks import check_token_ids


def embedded(ids, name="words"):
    return keras.layers.Flatten()(keras.layers.Embedding(5, 4, name=name)(ids))


def columns(table):
    """A category, of 5, and an age."""
    number = keras.ops.cast(table[:, 1:], "float32")
    return keras.layers.Concatenate()([embedded(table[:, :1]), number])


LEGAL = {
    "looked up": lambda x: embedded(keras.layers.IntegerLookup(vocabulary=[100, 200])(x)),
    "columns": columns,
    "clipped": lambda x: embedded(keras.ops.clip(x, 0, 4)),
    "no embedding": lambda x: keras.ops.cast(x, "float32"),
}


@pytest.mark.parametrize("name", LEGAL)
def test_integers_that_enter_no_embedding_as_they_are(name):
    x = keras.Input((2,), dtype="int64")
    check_token_ids("training data", keras.Model(x, LEGAL[name](x)), np.array([[100, -1]]))


def test_each_input_against_its_own_embedding():
    a, b = (keras.Input((2,), dtype="int32", name=name) for name in "ab")
    inner = keras.Model(b, embedded(b, "inside"))
    model = keras.Model({"a": a, "b": b}, embedded(a) + inner(b))
    good, bad = np.array([[0, 4]]), np.array([[0, 5]])
    check_token_ids("training data", model, {"a": good, "b": good})
    for x, table in (({"a": bad, "b": good}, "words"), ([good, bad], "inside")):
        with pytest.raises(ValueError, match=f"ids from 0 to 5, but the embedding '{table}'"):
            check_token_ids("training data", model, x)


def test_an_embedding_of_the_users_own():
    class Shifted(keras.layers.Embedding):
        def call(self, ids):
            return super().call(ids - 100)

    x = keras.Input((2,), dtype="int32")
    check_token_ids("training data", keras.Model(x, Shifted(5, 4)(x)), np.array([[100, 104]]))


def test_token_ids_with_fractions():
    x = keras.Input((2,), dtype="int32")
    model = keras.Model(x, embedded(x))
    check_token_ids("training data", model, np.array([[1.0, 2.0]]))
    with pytest.raises(ValueError, match=r"with fractions, such as 2\.5, .* are ints"):
        check_token_ids("training data", model, np.array([[1.0, 2.5]]))


@pytest.mark.parametrize("builder", [models.lstm_encoder, models.encoder_decoder])
def test_masks_are_as_long_as_their_ids_and_padded_on_the_right(builder):
    model = builder(50, 1, 2, 16) if builder is models.encoder_decoder else builder(50, 8)
    ids = np.ones((3, 4), "int32")
    good = dict.fromkeys(model.input, ids)
    # A row of padding alone has no side.
    good |= {name: np.tril(ids)[:, :4] for name in model.input if name.endswith("mask")}
    good["padding_mask"] = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    check_token_ids("training data", model, good)
    for name in (name for name in model.input if name.endswith("mask")):
        with pytest.raises(ValueError, match=f"4 tokens a row in '.*token_ids', but 5 in '{name}'"):
            check_token_ids("training data", model, good | {name: np.ones((3, 5))})
        holes = np.array([[1, 0, 1, 1], [0, 0, 1, 1], [0, 1, 1, 1]])
        check_token_ids("training data", model, good | {name: holes})
        on_the_left = np.array([[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]])
        with pytest.raises(ValueError, match=f"on the left, first in row 1 of '{name}'"):
            check_token_ids("training data", model, good | {name: on_the_left})


def test_other_libraries_models_may_be_padded_on_the_left():
    ids, mask = (keras.Input((2,), dtype="int32", name=n) for n in ("token_ids", "padding_mask"))
    model = keras.Model({"token_ids": ids, "padding_mask": mask}, embedded(ids * mask))
    x = {"token_ids": np.array([[1, 2]]), "padding_mask": np.array([[0, 1]])}
    check_token_ids("training data", model, x)
