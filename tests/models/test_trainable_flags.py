"""What is frozen or quantized inside layers made of layers comes back so."""

import keras
import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune import models
from keras_finetune.models.quantizing import few_objects_to_collect
from keras_finetune.models.transformer_block import TransformerBlock

pytestmark = pytest.mark.backends

BUILDERS = {
    "transformer_encoder": lambda: models.transformer_encoder(30, 2, 2, 16, max_length=8),
    "encoder_decoder": lambda: models.encoder_decoder(30, 1, 2, 16, max_length=8),
    "lstm_encoder": lambda: models.lstm_encoder(30, 16, bidirectional=True),
    "cnn_encoder": lambda: models.cnn_encoder(30, 16),
}


def frozen(model):
    return [variable.path for variable in model.weights if not variable.trainable]


def saved_and_loaded(model, folder):
    model.save(folder / "model.keras")
    return keras.models.load_model(folder / "model.keras")


@pytest.mark.parametrize("builder", BUILDERS)
def test_a_frozen_model(builder, tmp_path):
    model = BUILDERS[builder]()
    for layer in model.layers:
        layer.trainable = False
    assert not saved_and_loaded(model, tmp_path).trainable_variables
    assert not keras.models.clone_model(model).trainable_variables


@pytest.mark.parametrize("builder", BUILDERS)
def test_a_model_frozen_in_part(builder, tmp_path):
    model = BUILDERS[builder]()
    layers = [layer for layer in model._flatten_layers() if layer.weights and not layer._layers]
    for layer in layers[::2]:
        layer.trainable = False
    assert 0 < len(frozen(model)) < len(model.weights)
    assert frozen(saved_and_loaded(model, tmp_path)) == frozen(model)


def test_a_block_made_frozen():
    block = TransformerBlock(num_heads=2, intermediate_dim=8, trainable=False)
    block.build((None, None, 8))
    assert not [variable for variable in block.weights if variable.trainable]


def test_what_was_saved_goes_on_training_as_before(tmp_path):
    texts = ["a b c d", "e f g h"] * 8
    tokenizer = kft.data.Tokenizer.train(texts, vocab_size=300, progress=False)
    task = kft.tasks.TextClassification(["x", "y"], tokenizer, max_length=8)
    backbone = models.transformer_encoder(tokenizer.vocab_size, 2, 2, 16, max_length=8)
    data = task.dataset({"text": texts, "label": ["x", "y"] * 8}, batch_size=8)
    tuner = kft.FineTuner(task.build(backbone))
    tuner.compile("adamw", learning_rate={"backbone": 1e-3, "head": 3e-3})
    tuner.freeze("backbone", bottom=1)
    tuner.fit(data, verbose=0)
    tuner.model.save(tmp_path / "model.keras")

    again = kft.FineTuner(kft.load_model(tmp_path / "model.keras"))
    again.compile("adamw", learning_rate={"backbone": 1e-3, "head": 3e-3})
    assert frozen(again.model) == frozen(tuner.model) != []
    kernel = again.model.get_layer("block_0").feed_forward.up.kernel
    before = keras.ops.convert_to_numpy(kernel).copy()
    again.fit(data, verbose=0)
    assert (keras.ops.convert_to_numpy(kernel) == before).all()


@pytest.mark.usefixtures("unfrozen")
@pytest.mark.parametrize(
    ("builder", "how"),
    [
        ("transformer_encoder", "int8"),
        pytest.param("transformer_encoder", "int4 by 8", marks=pytest.mark.slow),
        pytest.param("encoder_decoder", "int4", marks=pytest.mark.slow),
    ],
)
def test_a_quantized_model(builder, how, tmp_path):
    mode, _, block_size = how.partition(" by ")
    config = keras.quantizers.Int4QuantizationConfig(block_size=8) if block_size else None
    model = models.text_classifier(BUILDERS[builder](), 3)
    names = [name for name in model.input if name.endswith("token_ids")]
    inputs = {name: np.array([[5, 6, 7]]) for name in names}
    inputs |= {name: np.ones((1, 3), bool) for name in model.input if name not in names}
    quantized = keras.layers.Dense | keras.layers.Embedding
    with few_objects_to_collect():
        model.quantize(mode, config=config, filters=lambda layer: isinstance(layer, quantized))
    again = saved_and_loaded(model, tmp_path)
    found, expected = (keras.ops.convert_to_numpy(each(inputs)) for each in (again, model))
    assert (found == expected).all()
    assert frozen(again) == frozen(model)
    assert frozen(saved_and_loaded(again, tmp_path)) == frozen(model)
