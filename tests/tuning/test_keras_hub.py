"""KerasHub's models as they are, on real instances with small random weights."""

import types

import keras
import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune.tuning import blocks, roles, select
from keras_finetune.tuning.data_kinds import FitData
from keras_finetune.tuning.prefix_cut import find_cut
from keras_finetune.tuning.preprocessing import lists_as_arrays

keras_hub = pytest.importorskip("keras_hub")
pytestmark = pytest.mark.filterwarnings("ignore")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "a", "very"]
LABELS = ["neg", "pos"]


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_FINETUNE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def rows():
    texts = ["a very good film", "bad film", "good", "a very very bad film"] * 8
    return {"text": texts, "label": ["pos" if "good" in text else "neg" for text in texts]}


def make_bert(num_layers):
    sizes = {"num_layers": num_layers, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32}
    backbone = keras_hub.models.BertBackbone(vocabulary_size=len(WORDS), **sizes)
    tokenizer = keras_hub.tokenizers.BertTokenizer(vocabulary=WORDS, lowercase=True)
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=24)
    return keras_hub.models.BertTextClassifier(backbone, 2, preprocessor)


@pytest.fixture
def bert():
    return make_bert(2)


@pytest.fixture
def small_bert():
    return make_bert(1)


@pytest.fixture
def gpt2():
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32}
    backbone = keras_hub.models.GPT2Backbone(vocabulary_size=12, **sizes)
    tokens = ["<|endoftext|>", "a", "b", "ab", "Ġ", "Ġa", "Ġab", "Ġb", "c", "d", "e", "f"]
    tokenizer = keras_hub.tokenizers.GPT2Tokenizer(
        vocabulary={token: number for number, token in enumerate(tokens)},
        merges=["a b", "Ġ a", "Ġa b", "Ġ b"],
    )
    preprocessor = keras_hub.models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=16)
    return keras_hub.models.GPT2CausalLM(backbone, preprocessor)


@pytest.fixture
def llama():
    backbone = keras_hub.models.LlamaBackbone(
        vocabulary_size=12,
        num_layers=3,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
    )
    return keras_hub.models.LlamaCausalLM(backbone)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_roles_and_blocks(name, request):
    model = request.getfixturevalue(name)
    found = roles(model)
    assert [path.rpartition("/")[2] for path in found["head"]] == ["logits"] * (name == "bert")
    embeddings = {path.rpartition("/")[2] for path in found["embeddings"]}
    assert "token_embedding" in embeddings
    _, found_blocks = blocks(found["backbone"])
    layers = [next(iter(block)).rpartition("/")[2] for block in found_blocks]
    count = model.backbone.num_layers
    assert layers == [f"transformer_layer_{number}" for number in range(count)]
    top = select(model, "backbone", top=count - 1)
    assert {path.split("/")[1] for path in top} >= set(layers[1:])
    assert not any("embedding" in path or "layer_0" in path for path in top)


def changed(model, before):
    return {
        weight.path
        for weight, old in zip(model.weights, before, strict=True)
        if not np.array_equal(keras.ops.convert_to_numpy(weight), old)
    }


def values(model):
    return [keras.ops.convert_to_numpy(weight) for weight in model.weights]


@pytest.mark.backends
def test_its_fit_evaluate_and_predict_take_a_data_set(small_bert, rows):
    data = kft.tasks.keras_hub_dataset(small_bert, rows, labels=LABELS, shuffle=False)
    tuner = kft.FineTuner(small_bert)
    history = tuner.fit(data, validation_data=data, verbose=0).history
    assert history["val_loss"] == [pytest.approx(tuner.evaluate(data, verbose=0)["loss"], rel=1e-4)]
    assert tuner.predict(data, verbose=0).shape == (32, 2)


def test_stages_on_a_classifier_that_is_saved_and_loaded(bert, rows, tmp_path):
    data = kft.tasks.keras_hub_dataset(bert, rows, labels=LABELS, batch_size=8, shuffle=False)
    tuner = kft.FineTuner(bert)
    tuner.compile("adamw", learning_rate={"backbone": 1e-3, "head": 1e-2})
    before, parts = [], []

    class Note(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            before[:] = values(bert)

        def on_train_end(self, logs=None):
            parts.append({path.split("/")[0] for path in changed(bert, before)})

    stages = kft.gradual_unfreezing(bert, final_epochs=6, blocks_per_stage=2)
    assert len(tuner.fit_stages(stages, data, callbacks=[Note()], verbose=0)) == len(stages)
    above = {"logits", "pooled_dense", "transformer_layer_0", "transformer_layer_1"}
    assert parts[:2] == [{"logits"}, above]
    assert parts[2] > above
    assert tuner.evaluate(data, verbose=0)["sparse_categorical_accuracy"] > 0.9
    assert bert.preprocessor is not None
    assert bert.predict(["a very good film"], verbose=0).shape == (1, 2)
    expected = tuner.predict(data, verbose=0)
    path = tuner.save(tmp_path / "bert.keras")
    again = kft.FineTuner(kft.load_model(path))
    np.testing.assert_allclose(again.predict(data, verbose=0), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_it_is_preprocessed_once_and_the_same(name, request, rows, monkeypatch):
    model = request.getfixturevalue(name)
    layer = model.preprocessor
    texts = {"bert": rows["text"], "gpt2": ["ab a", "b ab ab", "a"] * 5}[name]
    expected = keras.utils.unpack_x_y_sample_weight(layer(texts))
    calls = []
    call = type(layer).__call__
    monkeypatch.setattr(type(layer), "__call__", lambda self, *x: calls.append(1) or call(self, *x))
    examples = {"text": texts, **({"label": rows["label"]} if name == "bert" else {})}
    labels = LABELS if name == "bert" else None
    data = kft.tasks.keras_hub_dataset(model, examples, labels=labels, shuffle=False, batch_size=4)
    assert len(calls) == 1
    widths = []
    for _ in range(2):
        for batch in data:
            widths.append(batch[0]["token_ids"].shape[1])
    kft.tasks.keras_hub_dataset(model, examples, labels=labels)
    assert len(calls) == 1
    assert max(widths) <= layer.sequence_length
    dataset = data.start_at(0)
    order = np.concatenate([batch.rows for batch in dataset.plan(0)])
    for number, row in zip(order, (r for b in dataset for r in unbatched(b)), strict=True):
        x, *rest = row
        width = len(x["token_ids"])
        for key, value in x.items():
            np.testing.assert_array_equal(value, np.asarray(expected[0][key])[number, :width])
        assert not np.asarray(expected[0]["padding_mask"])[number, width:].any()
        if name == "gpt2":
            np.testing.assert_array_equal(rest[0], np.asarray(expected[1])[number, :width])
            np.testing.assert_array_equal(rest[1], np.asarray(expected[2])[number, :width])
        else:
            assert LABELS[int(rest[0])] == rows["label"][number]


def unbatched(batch):
    x, *rest = batch
    for row in range(len(x["token_ids"])):
        parts = [np.asarray(part)[row] for part in rest]
        yield {key: np.asarray(value)[row] for key, value in x.items()}, *parts


def test_the_loss_is_that_of_keras_own_way(gpt2):
    texts = ["ab a", "b ab ab", "a", "b b b a"]
    data = kft.tasks.keras_hub_dataset(gpt2, {"text": texts}, batch_size=4)
    gpt2.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
        optimizer="sgd",
        jit_compile=False,
    )
    gpt2.run_eagerly = True  # Sooner than compiling it.
    theirs = gpt2.evaluate(np.array(texts, object), verbose=0, batch_size=4, return_dict=True)
    gpt2.run_eagerly = False
    tuner = kft.FineTuner(gpt2)
    tuner.history = {"loss": [0.0]}
    assert tuner.evaluate(data, verbose=0)["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
    before = values(gpt2)
    tuner.freeze("backbone")
    tuner.unfreeze("backbone", top=1)
    tuner.fit(data, epochs=1, verbose=0)
    assert {path.split("/")[0] for path in changed(gpt2, before)} == {
        "transformer_layer_1",
        "layer_norm",
    }


def test_raw_text_goes_through_the_preprocessor_as_in_keras(small_bert, rows):
    tuner = kft.FineTuner(small_bert)
    tuner.compile("sgd", learning_rate=0.0, run_eagerly=True)
    numbers = [LABELS.index(name) for name in rows["label"]]
    arrays, lists = (np.array(rows["text"]), np.array(numbers)), [rows["text"], numbers]
    tuner.fit(*lists, sample_weight=[1.0] * 32, validation_data=arrays, batch_size=8, verbose=0)
    of_lists = tuner.evaluate(*lists, verbose=0)["loss"]
    np.testing.assert_allclose(of_lists, tuner.history["val_loss"][0], rtol=1e-5)


def test_lists_are_arrays_where_a_preprocessor_takes_them(rows):
    model = types.SimpleNamespace(preprocessor=None)
    given = FitData((rows["text"], rows["text"]), [0, 1], [rows["text"], [0, 1]])
    assert lists_as_arrays(model, given) is given
    model.preprocessor = len
    made = lists_as_arrays(model, given)
    assert [part.dtype for part in (*made.x, made.validation_data[0])] == [object] * 3
    np.testing.assert_array_equal(made.x[0], rows["text"])
    np.testing.assert_array_equal(made.y, np.array([0, 1]))


def test_lists_of_pairs_and_of_nothing(small_bert, rows):
    tuner = kft.FineTuner(small_bert)
    tuner.compile("adam", run_eagerly=True)
    pairs, numbers = (rows["text"], rows["text"]), [0, 1] * 16
    tuner.fit(pairs, numbers, validation_split=0.25, verbose=0, class_weight="balanced")
    assert len(tuner.history["val_loss"]) == 1
    with pytest.raises(ValueError, match="32 rows in x, but 31 in y"):
        tuner.fit(rows["text"], numbers[1:], verbose=0)
    with pytest.raises(ValueError, match="training data is empty"):
        tuner.fit([], [], verbose=0)
    tuner.freeze("backbone")
    with pytest.raises(ValueError, match="cache_frozen=True is not possible"):
        tuner.fit(rows["text"], numbers, epochs=2, cache_frozen=True, verbose=0)


def test_other_classes_than_the_model_has_are_refused(small_bert, rows):
    wrong = kft.tasks.keras_hub_dataset(small_bert, rows, labels=[*LABELS, "mixed"])
    with pytest.raises(ValueError, match="training data has 3 classes, but the model has 2 out"):
        kft.FineTuner(small_bert).fit(wrong, verbose=0)


def test_one_output_tells_two_classes_apart(small_bert, rows):
    model = keras_hub.models.BertTextClassifier(small_bert.backbone, 1, small_bert.preprocessor)
    data = kft.tasks.keras_hub_dataset(model, rows, labels=LABELS, batch_size=8)
    tuner = kft.FineTuner(model)
    tuner.freeze("backbone")
    with pytest.raises(ValueError, match="training data has 2 classes, but the model has 1 out"):
        tuner.fit(data, verbose=0)
    tuner.compile("adamw", keras.losses.BinaryCrossentropy(from_logits=True))
    tuner.fit(data, verbose=0)
    assert len(tuner.history["loss"]) == 1


def test_bad_input(llama, bert, rows):
    with pytest.raises(ValueError, match=r"no preprocessor with a tokenizer.*from_preset"):
        kft.tasks.keras_hub_dataset(llama, rows)
    with pytest.raises(ValueError, match=r"'pos'.*great"):
        kft.tasks.keras_hub_dataset(bert, rows, labels=["neg", "great"])


def test_a_seq2seq_task_is_another(gpt2):
    class Seq2SeqLM(type(gpt2)):
        pass

    model = Seq2SeqLM(gpt2.backbone, gpt2.preprocessor)
    with pytest.raises(ValueError, match="a Seq2SeqLM"):
        kft.tasks.keras_hub_dataset(model, {"text": ["ab"]})


def test_other_tasks_go_into_fit_with_raw_data(small_bert):
    hub, tokenizer = keras_hub.models, small_bert.preprocessor.tokenizer
    preprocessor = hub.BertMaskedLMPreprocessor(tokenizer, sequence_length=8)
    model = hub.BertMaskedLM(small_bert.backbone, preprocessor)
    texts = ["a very good film", "bad film"] * 4
    with pytest.raises(ValueError, match=r"text classifiers and causal .* a BertMaskedLM. .*\.fit"):
        kft.tasks.keras_hub_dataset(model, {"text": texts})
    tuner = kft.FineTuner(model)
    tuner.compile("sgd", run_eagerly=True)
    tuner.fit(np.array(texts, object), verbose=0)
    assert np.isfinite(tuner.history["loss"]).all()


@pytest.mark.parametrize("top", [None, 1])
def test_frozen_layers_run_once(bert, rows, top):
    """With the prefix cut inside the nested backbone, and the same losses as without."""
    backbone = keras_hub.models.BertBackbone.from_config(
        bert.backbone.get_config() | {"dropout": 0}
    )
    model = keras_hub.models.BertTextClassifier(backbone, 2, bert.preprocessor, dropout=0.0)
    start = model.get_weights()
    found = []
    for cache_frozen in (False, True):
        model.set_weights(start)
        tuner = kft.FineTuner(model)
        tuner.compile("adam", learning_rate=1e-3)
        tuner.freeze("backbone")
        if top:
            tuner.unfreeze("backbone", top=top)
        last = find_cut(model).prefix[-1].operation.name
        assert last.startswith("transformer_layer_0") if top else last not in ("logits",)
        data = kft.tasks.keras_hub_dataset(model, rows, labels=LABELS, batch_size=8)
        tuner.fit(data, epochs=2, verbose=0, cache_frozen=cache_frozen)
        found.append(tuner.history["loss"])
    assert found[0][0] != found[0][-1]
    np.testing.assert_allclose(*found, rtol=1e-5)
