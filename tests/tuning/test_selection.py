import keras
import pytest

from keras_finetune.tuning import blocks, layer_paths, roles, select

pytestmark = pytest.mark.backends


def nested():
    ids = keras.Input((4,), dtype="int32")
    x = keras.layers.Embedding(9, 4, name="embedding")(ids)
    x = keras.layers.LSTM(4, name="lstm_1", return_sequences=True)(x)
    backbone = keras.Model(ids, keras.layers.LSTM(4, name="lstm_2")(x), name="encoder")
    outer = keras.Input((4,), dtype="int32")
    return keras.Model(outer, keras.layers.Dense(2, name="classes")(backbone(outer)))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding = keras.layers.Embedding(9, 4, name="embedding")
        self.first = keras.layers.Dense(4, name="dense")
        self.second = keras.layers.Dense(4, name="dense")
        self.logits = keras.layers.Dense(2, name="logits")

    def call(self, ids):
        x = keras.ops.mean(self.embedding(ids), axis=1)
        return self.logits(self.second(self.first(x)))


def test_named_heads_and_blocks(model):
    found = roles(model)
    assert list(found["head"]) == ["head_logits"]
    assert list(found["backbone"]) == ["token_embedding", "block_0", "block_1"]
    assert list(found["embeddings"]) == ["token_embedding"]
    assert list(select(model, "backbone", top=1)) == ["block_1"]
    assert list(select(model, "backbone", bottom=1)) == ["token_embedding", "block_0"]


def test_nested_backbone_is_opened():
    model = nested()
    assert list(roles(model)["head"]) == ["classes"]
    assert list(select(model, "backbone", top=1)) == ["encoder/lstm_2"]
    assert list(select(model, "encoder", bottom=1)) == ["encoder/embedding", "encoder/lstm_1"]


def test_sequential_last_layer_is_the_head():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, name="a"),
            keras.layers.Dense(3, name="b"),
            keras.layers.Dropout(0.1, name="drop"),
            keras.layers.Dense(2, name="c"),
            keras.layers.Softmax(name="softmax"),
        ]
    )
    assert list(roles(model)["head"]) == ["c"]
    assert list(select(model, "backbone", top=1)) == ["b"]


def test_subclassed_same_named_layers_stay_apart():
    model = Subclassed()
    model(keras.ops.zeros((1, 3), dtype="int32"))
    assert list(layer_paths(model)) == ["embedding", "dense", "dense_1", "logits"]
    assert list(select(model, "dense").values()) == [model.first]
    assert list(roles(model)["head"].values()) == [model.logits]


def test_backbone_attribute_decides():
    class WithBackbone(keras.Model):
        def __init__(self):
            super().__init__()
            self.backbone = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="in")])
            self.hidden = keras.layers.Dense(3, name="hidden")
            self.out = keras.layers.Dense(2, name="out")

        def call(self, x):
            return self.out(self.hidden(self.backbone(x)))

    model = WithBackbone()
    model(keras.ops.zeros((1, 4)))
    assert list(roles(model)["head"]) == ["hidden", "out"]


def test_globs_layers_callables_and_sequences(model):
    layer = model.get_layer("block_0")
    assert list(select(model, "block_*")) == ["block_0", "block_1"]
    assert list(select(model, "block_1/*/wide")) == ["block_1/mlp/wide"]
    assert list(select(model, "narrow")) == ["block_0/mlp/narrow", "block_1/mlp/narrow"]
    assert list(select(model, layer)) == ["block_0"]
    assert list(select(model, lambda each: isinstance(each, keras.layers.Embedding))) == [
        "token_embedding"
    ]
    assert list(select(model, ["head", "embeddings", layer])) == [
        "token_embedding",
        "block_0",
        "head_logits",
    ]


def test_blocks_of_plain_layers(model):
    stem, found = blocks(roles(model)["backbone"])
    assert list(stem) == ["token_embedding"]
    assert [list(block) for block in found] == [["block_0"], ["block_1"]]


def test_nothing_matches_names_the_nearest(model):
    with pytest.raises(ValueError, match=r'Did you mean "backbone"\?') as error:
        select(model, "bakbone")
    assert '"token_embedding"' in str(error.value)
    with pytest.raises(ValueError, match="matches no layer"):
        select(model, ["head", "blocc_0"])


@pytest.mark.parametrize("selection", [None, 3, ["head", 3]])
def test_what_is_no_selection(model, selection):
    with pytest.raises(ValueError, match=r"A selection is one of .*head.* Received: (None|3)"):
        select(model, selection)


@pytest.mark.parametrize("count", [0, 3, -1, 1.5, True])
def test_more_blocks_than_there_are(model, count):
    with pytest.raises(ValueError, match=r"has 2 block\(s\)"):
        select(model, "backbone", top=count)


def test_top_and_bottom_together(model):
    with pytest.raises(ValueError, match="not both"):
        select(model, "backbone", top=1, bottom=1)


def test_a_model_that_is_not_built_says_so():
    model = keras.Sequential([keras.layers.Embedding(9, 4), keras.layers.LSTM(4)])
    with pytest.raises(ValueError, match=r"is not built.*keras\.Input"):
        select(model, "embeddings")
