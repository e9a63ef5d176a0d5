import keras
import numpy as np
import pytest

from keras_finetune import models
from keras_finetune.models import PositionEmbedding

pytestmark = pytest.mark.backends


def test_adds_the_row_of_each_position():
    layer = PositionEmbedding(8)
    hidden = np.ones((2, 5, 4), "float32")
    got = keras.ops.convert_to_numpy(layer(hidden))
    table = keras.ops.convert_to_numpy(layer.embeddings)
    assert table.shape == (8, 4)
    np.testing.assert_allclose(got[1], 1 + table[:5], rtol=1e-6)


def test_too_long_a_sequence_says_what_to_do():
    model = models.transformer_encoder(20, 1, 2, 8, max_length=6)
    assert model.get_layer("position_embedding").max_length == 6
    inputs = {"token_ids": np.ones((1, 7), "int32"), "padding_mask": np.ones((1, 7), bool)}
    with pytest.raises(ValueError, match=r"7 tokens long.*only 6 positions.*max_length=6"):
        model(inputs)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only it has unknown lengths")
def test_too_long_a_sequence_of_unknown_length_fails_too():
    import tensorflow as tf

    layer = PositionEmbedding(6)
    layer.build((None, None, 4))
    run = tf.function(layer, input_signature=[tf.TensorSpec((None, None, 4))])
    assert run(tf.zeros((1, 6, 4))).shape == (1, 6, 4)
    with pytest.raises(tf.errors.InvalidArgumentError, match="slice"):
        run(tf.zeros((1, 7, 4)))


def test_bad_arguments():
    with pytest.raises(ValueError, match="input_dim must be an int of at least 1"):
        PositionEmbedding(0)
