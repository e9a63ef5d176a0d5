import keras
import numpy as np
import pytest

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
