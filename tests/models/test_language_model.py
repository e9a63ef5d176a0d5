import keras
import numpy as np
import pytest

from keras_finetune import models

pytestmark = pytest.mark.backends

CAUSAL = ["decoder_gpt2", "decoder_llama", "decoder_qwen"]


@pytest.fixture(params=[*CAUSAL, "lstm"])
def backbone(request, builders):
    keras.utils.set_random_seed(0)
    more = {"embedding_dim": 16} if request.param == "lstm" else {}
    return models.lstm_encoder(50, 16) if more else builders[request.param]()


@pytest.mark.parametrize("tied", [True, False])
def test_future_tokens_never_change_the_past(backbone, rows, outputs, random_weights, tied):
    model = models.language_model(backbone, tied=tied)
    random_weights(model)
    inputs = rows(model, lengths=(8, 8))
    before = outputs(model, inputs)
    inputs["token_ids"][:, 5:] = (inputs["token_ids"][:, 5:] + 7) % 50
    after = outputs(model, inputs)
    np.testing.assert_allclose(after[:, :5], before[:, :5], rtol=0, atol=1e-5)
    assert np.abs(after[:, 5:] - before[:, 5:]).max() > 0.01


def test_decoder_tokens_never_see_the_future_but_see_the_source(
    builders, rows, outputs, random_weights
):
    model = models.language_model(builders["encoder_decoder"]())
    random_weights(model)
    inputs = rows(model, lengths=(7, 7))
    before = outputs(model, inputs)
    later = {key: value.copy() for key, value in inputs.items()}
    later["decoder_token_ids"][:, 5:] = 3
    np.testing.assert_allclose(outputs(model, later)[:, :5], before[:, :5], rtol=0, atol=1e-5)
    other = {key: value.copy() for key, value in inputs.items()}
    other["token_ids"][:, 6] = (other["token_ids"][:, 6] + 7) % 50
    assert np.abs(outputs(model, other)[:, 0] - before[:, 0]).max() > 0.01


def test_a_tied_head_shares_the_embedding_matrix(builders, rows, outputs):
    backbone = builders["decoder_llama"]()
    model = models.language_model(backbone)
    assert len(model.weights) == len(backbone.weights)
    embedding = backbone.get_layer("token_embedding")
    features = outputs(backbone, rows(model))
    expected = features @ keras.ops.convert_to_numpy(embedding.embeddings).T
    np.testing.assert_allclose(outputs(model, rows(model)), expected, rtol=0, atol=1e-5)


def test_a_tied_head_is_still_tied_after_saving(builders, rows, outputs, tmp_path):
    model = models.language_model(builders["decoder_gpt2"]())
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert len(again.weights) == len(model.weights)
    embedding = again.get_layer("token_embedding")
    embedding.embeddings.assign(embedding.embeddings * 0)
    np.testing.assert_array_equal(outputs(again, rows(again)), 0)


def test_an_untied_head_has_a_matrix_of_its_own(builders):
    backbone = builders["decoder_llama"]()
    model = models.language_model(backbone, tied=False)
    assert model.get_layer("head_projection").kernel.shape == (16, 50)
    assert len(model.weights) == len(backbone.weights) + 1


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_logits_are_float32_under_mixed_precision(builders, rows, policy):
    model = models.language_model(builders["decoder_llama"](dtype=policy))
    logits = model(rows(model))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert np.isfinite(keras.ops.convert_to_numpy(logits)).all()


@pytest.mark.parametrize("name", ["encoder", "lstm_bidirectional", "cnn"])
def test_a_backbone_that_sees_the_future_is_refused(builders, name):
    with pytest.raises(ValueError, match=r"needs a causal backbone, but 'block_0'"):
        models.language_model(builders[name]())


def test_bad_backbones(builders):
    with pytest.raises(ValueError, match=r"embedding_dim=8, hidden_dim=16.*Pass tied=False"):
        models.language_model(builders["lstm"]())
    tokens = keras.Input((None,), dtype="int32")
    plain = keras.Model(tokens, keras.layers.Embedding(20, 4, name="words")(tokens))
    with pytest.raises(ValueError, match=r'needs a layer named "token_embedding".*words'):
        models.language_model(plain)
