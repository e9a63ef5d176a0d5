"""What `save_pretrained` writes, refuses and leaves alone."""

import json

import keras
import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune.pretrained.architecture import head_of_model

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")
LABELS = ("world", "sports", "business")


@pytest.fixture(scope="module")
def tokenizer():
    texts = ["the cat sat on the mat", "stocks fell, analysts said", "they won the game"] * 3
    return kft.data.Tokenizer.train(texts, 120, "wordpiece", min_frequency=1, progress=False)


@pytest.fixture
def backbone(tokenizer):
    return kft.models.transformer_encoder(
        tokenizer.vocab_size, 2, 2, 16, max_length=30, num_segments=2
    )


def weights_equal(one, other):
    for before, after in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (before, after)))


def test_a_model_made_here_goes_to_transformers_and_back(backbone, tokenizer, tmp_path):
    task = kft.tasks.TextClassification(LABELS, tokenizer, max_length=30)
    model = task.build(backbone, pooling="first", hidden_dim=16)
    kft.save_pretrained(model, tmp_path / "model")
    texts = ["the cat won", "stocks"]
    classify = transformers.pipeline("text-classification", str(tmp_path / "model"))
    for text, found in zip(texts, classify(texts), strict=True):
        prediction = task.predict(model, [text])[0]
        assert found["label"] == prediction.label
        assert found["score"] == pytest.approx(prediction.probability, abs=1e-5)

    again = kft.load_pretrained(tmp_path / "model", head=True)
    assert again.labels == LABELS
    assert again.tokenizer.encode(texts[0]) == tokenizer.encode(texts[0])
    weights_equal(model, again)


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "silu"])
def test_a_model_that_keras_loaded_is_saved_as_the_one_before(activation, backbone, tmp_path):
    head = {"pooling": "first", "hidden_dim": 16, "hidden_activation": activation}
    model = kft.models.text_classifier(backbone, 3, **head)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert head_of_model(loaded) == head_of_model(model)
    assert head_of_model(loaded)[1]["hidden_activation"] == activation


@pytest.mark.parametrize("before", [None, "multi_label_classification", "regression"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_the_problem_type_is_that_of_the_task(before, multi_label, backbone, tokenizer, tmp_path):
    kft.save_pretrained(backbone, tmp_path / "base", tokenizer=tokenizer)
    path = tmp_path / "base" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "problem_type": before}))
    task = kft.tasks.TextClassification(LABELS, max_length=30, multi_label=multi_label)
    model = task.build(kft.load_pretrained(tmp_path / "base"), pooling="first", hidden_dim=16)
    kft.save_pretrained(model, tmp_path / "model")
    kft.tasks.save(task, model, tmp_path / "task")
    kft.save_pretrained(kft.tasks.load(tmp_path / "task")[1], tmp_path / "loaded")
    kft.save_pretrained(kft.load_pretrained(tmp_path / "model", head=True), tmp_path / "again")
    expected = ("single_label_classification", "multi_label_classification")[multi_label]
    for name in ("model", "loaded", "again"):
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert config["problem_type"] == expected


def test_pairs_of_texts_go_to_transformers(backbone, tokenizer, tmp_path):
    task = kft.tasks.TextClassification(LABELS, tokenizer, max_length=30, text=("a", "b"))
    model = task.build(backbone, pooling="first", hidden_dim=16)
    kft.save_pretrained(model, tmp_path / "model")
    classify = transformers.pipeline("text-classification", str(tmp_path / "model"))
    found = classify({"text": "the cat won", "text_pair": "stocks"})
    prediction = task.predict(model, [("the cat won", "stocks")])[0]
    assert found["score"] == pytest.approx(prediction.probability, abs=1e-5)


@pytest.mark.parametrize("builder", ["transformer_encoder", "transformer_decoder"])
def test_models_without_segments_go_to_transformers(builder, tokenizer, tmp_path):
    first = builder == "transformer_encoder"
    backbone = getattr(kft.models, builder)(tokenizer.vocab_size, 2, 2, 16, max_length=30)
    head = {"pooling": "first", "hidden_dim": 16, "hidden_activation": "relu"}
    task = kft.tasks.TextClassification(LABELS, tokenizer, max_length=30)
    model = task.build(backbone, **(head if first else {"pooling": "last", "use_bias": False}))
    kft.save_pretrained(model, tmp_path / "model")
    classify = transformers.pipeline("text-classification", str(tmp_path / "model"))
    texts = ["the cat won", "stocks"]
    for got, expected in zip(
        classify(texts, batch_size=2), task.predict(model, texts), strict=True
    ):
        assert got["score"] == pytest.approx(expected.probability, abs=1e-5)


def test_masked_language_modelling_goes_on(backbone, tokenizer, tmp_path):
    kft.save_pretrained(backbone, tmp_path / "backbone", tokenizer=tokenizer)
    loaded = kft.load_pretrained(tmp_path / "backbone")
    task = kft.tasks.MaskedLanguageModeling(loaded.tokenizer, max_length=8)
    tuner = kft.FineTuner(task.build(loaded))
    texts = ["the cat sat on the mat and stocks fell"] * 20
    tuner.fit(task.dataset(texts), epochs=1, verbose=0)
    kft.save_pretrained(tuner.model, tmp_path / "tuned")
    again = kft.load_pretrained(tmp_path / "tuned", head=True)
    assert task.evaluate(tuner.model, texts)["loss"] > 0
    weights_equal(tuner.model, again)


def test_a_pretrained_backbone_brings_the_tokenizer_to_the_task(backbone, tokenizer, tmp_path):
    kft.save_pretrained(backbone, tmp_path / "backbone", tokenizer=tokenizer)
    task = kft.tasks.TextClassification(["good", "bad"], max_length=30)
    rows = {"text": ["the cat sat", "stocks fell"], "label": ["good", "bad"]}
    with pytest.raises(ValueError, match="no tokenizer yet"):
        task.dataset(rows)
    with pytest.raises(ValueError, match=r"no tokenizer.*load_pretrained"):
        task.build(kft.models.transformer_encoder(50, 1, 2, 16))
    tuner = kft.FineTuner(task.build(kft.load_pretrained(tmp_path / "backbone")))
    tuner.freeze("backbone")
    history = tuner.fit(task.dataset(rows), epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"][0])


def test_updates_of_lora_are_merged(backbone, tmp_path):
    model = kft.models.masked_language_model(backbone)
    token_embedding = model.get_layer("token_embedding")
    layers = [token_embedding, backbone.get_layer("block_0").feed_forward.up]
    layers.append(model.get_layer("head_transform"))
    for layer in layers:
        layer.enable_lora(2, lora_alpha=6)
        update = layer.trainable_weights[-1]
        assert update.name.endswith("_b")
        update.assign(np.ones(update.shape))
    kft.save_pretrained(model, tmp_path / "m")
    again = kft.load_pretrained(tmp_path / "m", head=True)
    assert len(again.weights) == len(model.weights) - 6
    np.testing.assert_allclose(
        again.get_layer("token_embedding").embeddings, token_embedding.embeddings, atol=1e-6
    )
    x = {name: np.array([[1, 2, 3]], "int32") for name in ("token_ids", "mask_positions")}
    x |= {"padding_mask": np.ones((1, 3), bool), "segment_ids": np.zeros((1, 3), "int32")}
    x["mask_positions"] = x["mask_positions"] - 1
    np.testing.assert_allclose(again(x), model(x), atol=1e-4)


def test_updates_of_lora_are_merged_in_half_precision(backbone, tmp_path):
    kft.save_pretrained(backbone, tmp_path / "whole")
    half = kft.load_pretrained(tmp_path / "whole", dtype="bfloat16")
    up = half.get_layer("block_0").feed_forward.up
    up.enable_lora(2)
    up.lora_kernel_b.assign(np.ones(up.lora_kernel_b.shape))
    expected = keras.ops.convert_to_numpy(keras.ops.cast(up.kernel, "float32"))
    kft.save_pretrained(half, tmp_path / "half")
    again = kft.load_pretrained(tmp_path / "half").get_layer("block_0").feed_forward.up
    np.testing.assert_array_equal(again.kernel, expected)


def test_variables_without_a_place_in_the_format_are_refused(backbone, tmp_path):
    up = backbone.get_layer("block_0").feed_forward.up
    up._tracker.unlock()
    up.slopes = up.add_weight(name="slopes", shape=(64,))
    with pytest.raises(ValueError, match=r"no place for 1 of .*block_0/feed_forward/up/slopes"):
        kft.save_pretrained(backbone, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_shards(backbone, tokenizer, tmp_path):
    kft.save_pretrained(backbone, tmp_path / "m", tokenizer=tokenizer, max_shard_gb=5e-6)
    names = sorted(path.name for path in (tmp_path / "m").glob("*.safetensors"))
    assert len(names) > 2
    assert names[0] == f"model-00001-of-{len(names):05d}.safetensors"
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(names)
    weights_equal(backbone, kft.load_pretrained(tmp_path / "m"))
    theirs = transformers.AutoModel.from_pretrained(tmp_path / "m")
    expected = keras.ops.convert_to_numpy(backbone.get_layer("token_embedding").embeddings)
    got = theirs.embeddings.word_embeddings.weight.detach().numpy()
    np.testing.assert_array_equal(got, expected)


def test_saving_again_replaces_weights_and_keeps_other_files(backbone, tmp_path):
    kft.save_pretrained(backbone, tmp_path / "m", max_shard_gb=5e-6)
    (tmp_path / "m" / "README.md").write_text("mine")
    kft.save_pretrained(backbone, tmp_path / "m")
    names = sorted(path.name for path in (tmp_path / "m").iterdir())
    assert names == ["README.md", "config.json", "model.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_saving_again_leaves_nothing_that_belonged_to_the_old_model(backbone, tokenizer, tmp_path):
    kft.save_pretrained(backbone, tmp_path / "m", tokenizer=tokenizer)
    stale = ["chat_template.jinja", "vocab.txt", "added_tokens.json", "generation_config.json"]
    for name in [*stale, "vocab.json.gz", "notes.txt"]:
        (tmp_path / "m" / name).write_text("{}")
    kft.save_pretrained(backbone, tmp_path / "m", tokenizer=tokenizer)
    written = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    there = {path.name for path in (tmp_path / "m").iterdir()}
    assert written < there
    assert there.isdisjoint([*stale, "vocab.json.gz"])
    assert "notes.txt" in there
    kft.save_pretrained(backbone, tmp_path / "m")
    names = sorted(path.name for path in (tmp_path / "m").iterdir())
    assert names == ["config.json", "model.safetensors", "notes.txt"]


@pytest.mark.parametrize("given_to", ["task", "save_pretrained"])
def test_token_ids_are_those_of_a_new_tokenizer(given_to, tokenizer, tmp_path):
    backbone = kft.models.transformer_decoder(128, 1, 2, 16, max_length=30)
    kft.save_pretrained(backbone, tmp_path / "base", tokenizer=tokenizer)
    path = tmp_path / "base" / "config.json"
    ids = {"pad_token_id": 7, "bos_token_id": 8, "eos_token_id": [9, 10]}
    path.write_text(json.dumps({**json.loads(path.read_text()), **ids}))
    model = kft.load_pretrained(tmp_path / "base")

    def saved(model, **more):
        kft.save_pretrained(model, tmp_path / "again", **more)
        config = json.loads((tmp_path / "again" / "config.json").read_text())
        return {name: config[name] for name in ids}

    assert saved(model) == ids
    same = kft.data.Tokenizer.load(tmp_path / "base")
    assert saved(kft.tasks.LanguageModeling(same, max_length=8).build(model)) == ids
    new = kft.data.Tokenizer.train(["a b c"] * 3, 40, "wordpiece", progress=False)
    expected = {name: getattr(new, name.replace("_token", "")) for name in ids}
    assert expected["bos_token_id"] is None
    if given_to == "task":
        task = kft.tasks.TextClassification(LABELS, new, max_length=8)
        assert saved(task.build(model, pooling="last", use_bias=False)) == expected
    else:
        assert saved(model, tokenizer=new) == expected


def test_a_failed_save_leaves_the_old_model(backbone, tmp_path, monkeypatch):
    kft.save_pretrained(backbone, tmp_path / "m")
    before = (tmp_path / "m" / "model.safetensors").read_bytes()
    backbone.get_layer("embedding_norm").gamma.assign_add(np.ones(16))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("keras_finetune.pretrained.saving.save_file", full)
    with pytest.raises(OSError, match="No space"):
        kft.save_pretrained(backbone, tmp_path / "m")
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_something_else_is_not_replaced(backbone, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="would be replaced"):
        kft.save_pretrained(backbone, tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        kft.save_pretrained(backbone, tmp_path / "thesis.txt")
    with pytest.raises(ValueError, match=r"directory must be a path.* Received: None\.$"):
        kft.save_pretrained(backbone, None)
    with pytest.raises(ValueError, match=r"directory must be a path.* The model comes before it"):
        kft.save_pretrained("path", backbone)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(backbone, tokenizer, tmp_path, dtype):
    kft.save_pretrained(backbone, tmp_path / "whole")
    half = kft.load_pretrained(tmp_path / "whole", dtype=dtype)
    kft.save_pretrained(half, tmp_path / "half")
    config = json.loads((tmp_path / "half" / "config.json").read_text())
    assert config["dtype"] == dtype
    size = (tmp_path / "half" / "model.safetensors").stat().st_size
    assert size < 0.6 * (tmp_path / "whole" / "model.safetensors").stat().st_size
    theirs = transformers.AutoModel.from_pretrained(tmp_path / "half")
    assert str(theirs.dtype) == f"torch.{dtype}"
    for one, other in zip(
        half.weights, kft.load_pretrained(tmp_path / "half").weights, strict=True
    ):
        np.testing.assert_array_equal(keras.ops.cast(one, "float32"), other)


def test_the_dtype_told_is_that_of_most_weights(backbone, tmp_path):
    kft.save_pretrained(backbone, tmp_path / "whole")
    half = kft.load_pretrained(tmp_path / "whole", dtype="bfloat16")
    model = kft.models.text_classifier(half, 3, pooling="first", hidden_dim=16)
    assert model.weights[-1].dtype == "float32"
    kft.save_pretrained(model, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["dtype"] == config["torch_dtype"] == "bfloat16"


def test_heads_that_no_family_has(backbone):
    task_model = kft.models.text_classifier(backbone, 3)
    expected = r"another head than this model, in .*hidden_dim.*pooling.*pooling='first'"
    with pytest.raises(ValueError, match=expected):
        kft.save_pretrained(task_model, "never")
    probabilities = kft.models.text_classifier(
        backbone, 3, pooling="first", hidden_dim=16, activation="softmax"
    )
    with pytest.raises(ValueError, match="gives probabilities"):
        kft.save_pretrained(probabilities, "never")


def test_backbones_that_no_family_has():
    with pytest.raises(ValueError, match=r"no transformer backbone.*model.save"):
        kft.save_pretrained(kft.models.lstm_encoder(50, 16), "never")
    odd = kft.models.transformer_encoder(50, 1, 2, 16, norm_first=True, num_segments=2)
    with pytest.raises(ValueError, match=r"bert: differs in.*norm_first"):
        kft.save_pretrained(odd, "never")


def test_labels_and_tokenizer_must_fit(backbone, tokenizer, tmp_path):
    model = kft.models.text_classifier(backbone, 3, pooling="first", hidden_dim=16)
    with pytest.raises(ValueError, match=r"3 classes. Received 2 labels"):
        kft.save_pretrained(model, tmp_path / "m", labels=["a", "b"])
    small = kft.models.transformer_encoder(20, 1, 2, 16, num_segments=2)
    with pytest.raises(ValueError, match="embedding has 20 rows"):
        kft.save_pretrained(small, tmp_path / "m", tokenizer=tokenizer)
    assert not list(tmp_path.iterdir())


def test_quantized_models_are_refused(backbone, tmp_path):
    backbone.quantize("int8")
    with pytest.raises(ValueError, match=r"is int8.*before it is quantized"):
        kft.save_pretrained(backbone, tmp_path / "m")
