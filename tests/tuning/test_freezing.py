import keras
import pytest

from keras_finetune.tuning import freeze, unfreeze

pytestmark = pytest.mark.backends


def trainable(model):
    return [layer.name for layer in model.layers if layer.trainable_variables]


def test_freeze_and_unfreeze_top(model):
    freeze(model, "backbone")
    assert trainable(model) == ["head_logits"]
    unfreeze(model, "backbone", top=1)
    assert trainable(model) == ["block_1", "head_logits"]
    unfreeze(model, "backbone")
    assert trainable(model) == ["token_embedding", "block_0", "block_1", "head_logits"]


def test_unfreeze_inside_a_frozen_model_leaves_siblings_frozen(model):
    model.trainable = False
    unfreeze(model, "head")
    assert model.trainable
    assert trainable(model) == ["head_logits"]


def test_unfreeze_one_layer_inside_a_frozen_block(model):
    freeze(model, "backbone")
    inner = model.get_layer("block_1").layer.narrow
    unfreeze(model, inner)
    assert [v.path for v in model.trainable_variables] == [
        *(v.path for v in inner.variables),
        *(v.path for v in model.get_layer("head_logits").variables),
    ]


def test_freeze_nested_backbone():
    backbone = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(3, name="b")],
        name="encoder",
    )
    model = keras.Sequential([keras.Input((4,)), backbone, keras.layers.Dense(2, name="out")])
    freeze(model, "backbone")
    unfreeze(model, "backbone", top=1)
    inner, head = backbone.layers[1], model.layers[1]
    expected = [*inner.variables, *head.variables]
    assert [id(v) for v in model.trainable_variables] == [id(v) for v in expected]


def test_returns_what_it_changed(model):
    assert list(freeze(model, "backbone", bottom=1)) == ["token_embedding", "block_0"]
    assert list(unfreeze(model, "embeddings")) == ["token_embedding"]


def test_variables_of_a_layer_of_ones_own_keep_their_flag():
    class Scale(keras.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(shape[-1],), name="scale")
            self.fixed = self.add_weight(shape=(shape[-1],), name="fixed", trainable=False)

        def call(self, x):
            return x * self.scale + self.fixed

    model = keras.Sequential([keras.Input((3,)), Scale(name="mine"), keras.layers.Dense(2)])
    freeze(model, "mine")
    unfreeze(model, "mine")
    assert [variable.name for variable in model.non_trainable_variables] == ["fixed"]
    assert model.layers[0].scale.trainable


def test_with_lora_the_update_trains_in_the_place_of_the_weight():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Embedding(9, 4, name="low"), keras.layers.Dense(2)]
    )
    for layer in model.layers:
        layer.enable_lora(2)
    before = [variable.path for variable in model.trainable_variables]
    freeze(model, "low")
    assert all("dense" in variable.path for variable in model.trainable_variables)
    unfreeze(model, "low")
    assert [variable.path for variable in model.trainable_variables] == before
