import keras
import numpy as np
import pytest

from keras_finetune import models

pytestmark = pytest.mark.backends


@pytest.fixture
def backbone():
    return models.cnn_encoder(50, 8)


def test_probabilities_when_asked(backbone, rows, outputs):
    single = outputs(models.text_classifier(backbone, 3, activation="softmax"), rows(backbone))
    np.testing.assert_allclose(single.sum(axis=1), 1, rtol=1e-5)
    several = outputs(models.text_classifier(backbone, 3, activation="sigmoid"), rows(backbone))
    assert ((several > 0) & (several < 1)).all()
    one = models.text_classifier(backbone, 1, activation="sigmoid")
    assert one.output_shape == (None, 1)


def test_shares_the_layers_of_the_backbone(backbone):
    model = models.text_classifier(backbone, 3)
    for layer in backbone.layers:
        assert model.get_layer(layer.name) is layer


def test_the_pooler_is_dense_and_tanh(rows, outputs):
    backbone = models.transformer_encoder(50, 1, 2, 8)
    model = models.text_classifier(backbone, 2, pooling="first", hidden_dim=6)
    inputs = rows(backbone)
    first = outputs(backbone, inputs)[:, 0]
    kernel, bias = model.get_layer("head_hidden").get_weights()
    out_kernel, out_bias = model.get_layer("head_logits").get_weights()
    expected = np.tanh(first @ kernel + bias) @ out_kernel + out_bias
    np.testing.assert_allclose(outputs(model, inputs), expected, rtol=0, atol=1e-5)


def test_a_plain_keras_model_is_a_backbone_too(outputs):
    tokens = keras.Input((None,), dtype="int32")
    features = keras.layers.Embedding(20, 4)(tokens)
    model = models.text_classifier(keras.Model(tokens, features), 2)
    assert outputs(model, np.ones((2, 3), "int32")).shape == (2, 2)
    layers = [keras.Input((None,), dtype="int32"), keras.layers.Embedding(20, 4)]
    model = models.text_classifier(keras.Sequential(layers), 2)
    assert outputs(model, np.ones((2, 3), "int32")).shape == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes must be an int of at least 1"),
        ({"num_classes": 1}, "pass num_classes=2"),
        ({"num_classes": 2, "pooling": "frist"}, 'Did you mean "first"'),
        ({"num_classes": 2, "activation": "sotfmax"}, 'Did you mean "softmax"'),
        ({"num_classes": 2, "dropout": -0.1}, "dropout must be a number"),
        ({"num_classes": 2, "hidden_dim": 0}, "hidden_dim must be an int of at least 1"),
    ],
)
def test_bad_arguments(backbone, arguments, message):
    with pytest.raises(ValueError, match=message):
        models.text_classifier(backbone, **arguments)


def test_a_backbone_needs_features_by_token():
    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"must be \(batch, length, hidden_dim\)"):
        models.text_classifier(flat, 2)
    with pytest.raises(ValueError, match="a Sequential that was built"):
        models.text_classifier(keras.Sequential([keras.layers.Dense(2)]), 2)
