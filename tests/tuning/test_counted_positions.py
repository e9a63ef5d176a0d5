"""The head computes what counts, and nothing changes by it."""

import keras
import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune.models.model_graph import model_graph
from keras_finetune.models.position_wise import head_tensors
from keras_finetune.tuning import prefix_choice
from keras_finetune.tuning.counted_positions import COUNTED, counts_in_part, only_counted
from keras_finetune.tuning.frozen_prefix import cut_model
from keras_finetune.tuning.prefix_cut import find_cut, uncut

pytestmark = pytest.mark.backends

WORDS = ("the", "cat", "dog", "sat", "ran", "on", "under", "a", "red", "old", "mat", "log")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


@pytest.fixture(scope="module")
def tokenizer():
    return kft.data.Tokenizer.train(
        [" ".join(WORDS)] * 2, vocab_size=300, special_tokens=SPECIAL, progress=False
    )


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, size)) for size in [9] * 8 + [22] * 16]  # Two widths.
    return {"document": texts, "summary": [" ".join(text.split()[:3]) for text in texts]}


def make(tokenizer, **head):
    keras.utils.set_random_seed(3)
    task = kft.tasks.Summarization(tokenizer, max_length=24, max_target_length=6)
    # Dropout of the topmost block draws for the positions that it computes.
    backbone = kft.models.transformer_decoder(
        tokenizer.vocab_size, num_layers=2, num_heads=2, hidden_dim=16, max_length=30, dropout=0.0
    )
    return task, task.build(backbone, learning_rate=0.01, **head)


def fit(tokenizer, pairs, head, cache_frozen, frozen):
    task, model = make(tokenizer, **head)
    tuner = kft.FineTuner(model)
    if frozen:
        tuner.freeze("backbone", bottom=1)
    of_one_width = {name: texts[8:] for name, texts in pairs.items()}
    data = task.dataset(of_one_width if frozen else pairs, batch_size=8)
    held_out = task.dataset(of_one_width, batch_size=8, shuffle=False)
    history = tuner.fit(
        data, validation_data=held_out, epochs=2, cache_frozen=cache_frozen, verbose=0
    )
    return history.history, model.get_weights()


@pytest.mark.parametrize(
    ("head", "cache_frozen", "frozen"),
    [
        pytest.param({}, False, False, id="all trains"),
        pytest.param({"tied": False}, True, True, id="frozen and kept"),
        pytest.param({}, False, True, id="frozen in part", marks=pytest.mark.slow),
    ],
)
def test_trains_as_when_all_is_computed(tokenizer, pairs, monkeypatch, head, cache_frozen, frozen):
    given = []

    def spied(x):
        given.append(x)
        return only_counted(x)

    monkeypatch.setattr(prefix_choice, "only_counted", spied)
    counted, weights = fit(tokenizer, pairs, head, cache_frozen, frozen)
    assert len(given) == 2, "training and validation data"
    monkeypatch.setattr(prefix_choice, "counts_in_part", lambda *_: False)
    every, expected = fit(tokenizer, pairs, head, cache_frozen, frozen)
    assert len(given) == 2
    assert set(counted) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    for name in every:
        np.testing.assert_allclose(counted[name], every[name], rtol=1e-4)
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-4)


def test_a_batch_has_what_counts_and_no_more(tokenizer, pairs):
    task, model = make(tokenizer)
    data = task.dataset(pairs, batch_size=8)
    assert counts_in_part(uncut(model), data)
    whole, part = (next(iter(x.as_numpy_iterator())) for x in (data, only_counted(data)))
    positions = part[0][COUNTED]
    assert positions.shape == part[1].shape == part[2].shape
    if keras.backend.backend() != "jax":  # Which knows few shapes.
        assert positions.shape[1] == (whole[2] > 0).sum(axis=1).max()
    assert positions.shape[1] < whole[1].shape[1]
    assert part[2].sum() == whole[2].sum() > 0
    for row, places in enumerate(positions):
        np.testing.assert_array_equal(part[1][row], whole[1][row][places])
        np.testing.assert_array_equal(part[2][row], whole[2][row][places])
        assert len(set(places)) == len(places)


def test_the_topmost_block_runs_at_what_counts(tokenizer, pairs, monkeypatch):
    task, model = make(tokenizer)
    x, labels, _ = next(iter(only_counted(task.dataset(pairs, batch_size=8)).as_numpy_iterator()))
    seen = {}

    def watched(name, call):
        return lambda x: seen.update({name: x.shape[1]}) or call(x)

    for name in ("block_0", "block_1"):
        layer = model.get_layer(name).feed_forward
        monkeypatch.setattr(layer, "call", watched(name, layer.call))
    with cut_model(model, uncut(model)):
        model(x)
    assert seen == {"block_0": x["token_ids"].shape[1], "block_1": labels.shape[1]}


def test_the_model_is_the_users_again(tokenizer, pairs):
    task, model = make(tokenizer)
    kft.FineTuner(model).fit(task.dataset(pairs), epochs=1, verbose=0)
    assert "call" not in vars(model)
    x = {"token_ids": np.ones((2, 5), "int32"), "padding_mask": np.ones((2, 5), "int32")}
    assert model.predict(x, verbose=0).shape == (2, 5, tokenizer.vocab_size)


def test_not_where_it_would_change_anything(tokenizer, pairs):
    task, model = make(tokenizer)
    data = task.dataset(pairs)
    assert not counts_in_part(None, data)
    assert not counts_in_part(uncut(model), data.take(1))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)  # Divides by the number of all positions.
    assert not counts_in_part(uncut(model), data)
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    model.compile("sgd", loss, metrics=["sparse_categorical_accuracy"])
    assert not counts_in_part(uncut(model), data)
    model.compile("sgd", loss, weighted_metrics=["sparse_categorical_accuracy"])
    assert not counts_in_part(uncut(model), data)
    model.compile("sgd", loss)
    assert counts_in_part(uncut(model), data)


def test_not_where_nearly_all_counts(tokenizer, pairs):
    keras.utils.set_random_seed(3)
    task = kft.tasks.LanguageModeling(
        tokenizer, max_length=32, text="document", separate_texts=True
    )
    backbone = kft.models.transformer_decoder(
        tokenizer.vocab_size, num_layers=1, num_heads=2, hidden_dim=16, max_length=32
    )
    model = task.build(backbone)
    assert not counts_in_part(uncut(model), task.dataset(pairs))


def test_a_mask_that_keras_carries_goes_with_the_positions():
    """Keras weighs the loss with the mask of the outputs."""
    inputs = {"token_ids": keras.Input((None,), dtype="int32", name="token_ids")}
    x = keras.layers.Embedding(9, 4, mask_zero=True)(inputs["token_ids"])
    x = keras.layers.LSTM(4, return_sequences=True)(x)
    model = keras.Model(inputs, keras.layers.Dense(9)(x))
    ids = np.array([[1, 2, 0, 0], [3, 4, 5, 0]], "int32")
    positions = np.array([[1, 2], [1, 2]], "int32")
    whole = model({"token_ids": ids})
    with cut_model(model, uncut(model)):
        part = model({"token_ids": ids, COUNTED: positions})
    found, expected = (keras.ops.convert_to_numpy(y) for y in (part, whole))
    np.testing.assert_allclose(found, expected[[[0], [1]], positions], rtol=1e-6)
    mask = keras.ops.convert_to_numpy(part._keras_mask)
    assert mask.tolist() == [[True, False], [True, True]]


def test_the_head_begins_above_the_cut(tokenizer):
    _, model = make(tokenizer, tied=False)
    for layer in model.layers:
        layer.trainable = layer.name == "head_projection"
    cut = find_cut(model)
    assert cut.head in cut.tensors


class OwnLoss(keras.Model):
    """May read the logits of all positions."""

    def compute_loss(self, *args, **kwargs):
        return super().compute_loss(*args, **kwargs)


@pytest.mark.parametrize("way", ["own loss", "regularized", "constant"])
def test_not_where_the_head_or_the_loss_sees_all_positions(tokenizer, pairs, way):
    task, model = make(tokenizer)
    data = task.dataset(pairs)
    features = model.get_layer("norm").output
    if way == "constant":
        added = keras.layers.Add()
        features = added([features, np.ones((1, 1, 16), "float32")])
    regularizer = "l2" if way == "regularized" else None
    logits = keras.layers.Dense(300, activity_regularizer=regularizer)(features)
    made = (OwnLoss if way == "own loss" else keras.Model)(model.input, logits)
    task.compile(made)
    if way == "constant":  # The head begins above it.
        cut = uncut(made)
        assert cut.graph.symbols[cut.head]._keras_history.operation.name == added.name
    else:
        assert not counts_in_part(uncut(made), data)


class MixingRescaling(keras.layers.Rescaling):
    """Known by its class's base, but not what it computes."""

    def call(self, inputs):
        return inputs - keras.ops.mean(inputs, axis=1, keepdims=True)


@pytest.mark.parametrize(("layer", "known"), [(keras.layers.Rescaling, 2), (MixingRescaling, 1)])
def test_a_subclass_may_mix_positions(layer, known):
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, layer(2.0)(inputs))
    assert len(head_tensors(model_graph(model))) == known
