import keras
import numpy as np
import pytest

from keras_finetune import models

pytestmark = pytest.mark.backends


def test_decoder_sees_the_whole_source_and_no_later_target(builders, rows, outputs, random_weights):
    model = builders["lstm_encoder_decoder"]()
    random_weights(model)
    inputs = rows(model, lengths=(7, 7))
    before = outputs(model, inputs)
    later = {key: value.copy() for key, value in inputs.items()}
    later["decoder_token_ids"][:, 5:] = (later["decoder_token_ids"][:, 5:] + 7) % 50
    np.testing.assert_allclose(outputs(model, later)[:, :5], before[:, :5], rtol=0, atol=1e-5)
    for place in (0, 6):
        other = {key: value.copy() for key, value in inputs.items()}
        other["token_ids"][:, place] = (other["token_ids"][:, place] + 7) % 50
        assert (np.abs(outputs(model, other) - before).max(axis=(0, 2)) > 1e-4).all()


def test_both_sides_share_the_embedding_and_a_tied_head_takes_it():
    backbone = models.lstm_encoder_decoder(50, 16)
    model = models.language_model(backbone)
    assert model.output_shape == (None, None, 50)
    assert len(model.weights) == len(backbone.weights)
    shared = [layer for layer in backbone.layers if isinstance(layer, keras.layers.Embedding)]
    assert [layer.name for layer in shared] == ["token_embedding"]


def test_a_narrow_embedding_needs_a_head_of_its_own():
    backbone = models.lstm_encoder_decoder(50, 16, embedding_dim=8)
    with pytest.raises(ValueError, match="tied=False"):
        models.language_model(backbone)
    assert models.language_model(backbone, tied=False).output_shape == (None, None, 50)
