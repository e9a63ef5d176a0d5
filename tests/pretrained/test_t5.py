"""What T5 has beside its features: generation, gradients, a task, files of several versions."""

import json

import keras
import numpy as np
import pytest
import tokenizers
from safetensors.numpy import load_file, save_file

import keras_finetune as kft

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from .conftest import VOCAB  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
ROWS = {
    "document": ["the cat sat on the mat", "stocks fell, analysts said", "they won the game"] * 4,
    "summary": ["cat sat", "stocks fell", "game won"] * 4,
}


def peaked(model):
    """Greater matrices, so that rounding chooses no token."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(3.0)
    return model


def padded(rows, width):
    mask = np.arange(width) < np.array([[len(row)] for row in rows])
    ids = np.zeros(mask.shape, "int64")
    ids[mask] = np.concatenate(rows)
    return ids, mask


def changed_config(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return directory


@pytest.mark.parametrize(
    ("family", "options"),
    [
        pytest.param("t5", {}, marks=pytest.mark.backends),
        ("t5_v1_1", {"num_beams": 3}),
    ],
)
def test_it_writes_what_transformers_writes(family, options, make_theirs, tmp_path):
    model = peaked(make_theirs(family, "ForConditionalGeneration"))
    model.save_pretrained(tmp_path)
    ours = kft.load_pretrained(tmp_path, head=True)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(4, VOCAB, length) for length in (7, 30, 1)]
    ids, mask = (torch.tensor(x) for x in padded(prompts, 30))
    # More tokens than there are distances with a bucket each, and than max_distance.
    expected = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=25, eos_token_id=None, **options
    )
    options = {"max_new_tokens": 25, "start_id": 0, "end_id": -1, **options}
    for use_cache in (True, False) if keras.backend.backend() == "tensorflow" else (True,):
        found = kft.generation.generate(ours, prompts, use_cache=use_cache, **options)
        np.testing.assert_array_equal(np.stack(found), expected[:, 1:].numpy())


@pytest.mark.backends
def test_gradients_are_those_of_transformers(make_theirs, batch, tmp_path):
    model = make_theirs("t5", "ForConditionalGeneration", dropout_rate=0.0)
    model.save_pretrained(tmp_path)
    ours = kft.load_pretrained(tmp_path, head=True)
    x = batch(lengths=(7, 24, 1), width=24)
    x |= {f"decoder_{k}": v for k, v in batch((3, 16, 6), width=16, seed=1).items()}
    labels = np.where(x["decoder_padding_mask"], x["decoder_token_ids"] * 2 % VOCAB, -100)
    theirs = {name: torch.tensor(value.astype("int64")) for name, value in x.items()}
    model(
        input_ids=theirs["token_ids"],
        attention_mask=theirs["padding_mask"],
        decoder_input_ids=theirs["decoder_token_ids"],
        decoder_attention_mask=theirs["decoder_padding_mask"],
        labels=torch.tensor(labels.astype("int64")),
    ).loss.backward()

    weights = x["decoder_padding_mask"].astype("float32")
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    ours.compile(keras.optimizers.SGD(1.0), loss)
    layers = {side: ours.get_layer(f"{side}_position_bias") for side in ("encoder", "decoder")}
    before = {side: layer.get_weights()[0] for side, layer in layers.items()}
    ours.train_on_batch(x, np.maximum(labels, 0), sample_weight=weights)
    for side, layer in layers.items():
        attention = getattr(model, side).block[0].layer[0].SelfAttention
        expected = attention.relative_attention_bias.weight.grad.numpy()
        assert np.abs(expected).max() > 1e-3
        found = before[side] - layer.get_weights()[0]
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture
def summarizer(make_theirs, tmp_path):
    """A directory as of `t5-small`: a tokenizer of the Unigram kind, which only marks the end."""
    made = tokenizers.Tokenizer(tokenizers.models.Unigram())
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=VOCAB - 9, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>"
    )
    made.train_from_iterator(ROWS["document"] + ROWS["summary"], trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    make_theirs("t5", "ForConditionalGeneration").save_pretrained(tmp_path / "t5")
    made.save(str(tmp_path / "t5" / "tokenizer.json"))
    roles = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    (tmp_path / "t5" / "tokenizer_config.json").write_text(json.dumps(roles))
    return tmp_path / "t5"


def test_it_learns_to_summarize_and_goes_back(summarizer, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_FINETUNE_CACHE", str(tmp_path / "cache"))
    keras.utils.set_random_seed(0)
    task = kft.tasks.Summarization(max_length=24, max_target_length=12)
    model = task.build(kft.load_pretrained(summarizer, head=True))
    data = task.dataset(ROWS, batch_size=6, shuffle=False)
    x, labels, weights = next(iter(data.as_numpy_iterator()))
    assert (x["decoder_token_ids"][:, 0] == 0).all()  # T5 starts with its padding.
    assert (labels[np.arange(6), weights.sum(1).astype(int) - 1] == 1).all()
    assert (x["token_ids"][np.arange(6), x["padding_mask"].sum(1) - 1] == 1).all()
    tuner = kft.FineTuner(model)
    tuner.compile(learning_rate=1e-2)
    tuner.fit(data, epochs=40, verbose=0)
    assert task.predict(model, ROWS["document"][:3]) == ROWS["summary"][:3]

    kft.save_pretrained(model, tmp_path / "tuned")
    again = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "tuned").eval()
    with torch.no_grad():
        theirs = again(
            input_ids=torch.tensor(x["token_ids"].astype("int64")),
            attention_mask=torch.tensor(x["padding_mask"].astype("int64")),
            decoder_input_ids=torch.tensor(x["decoder_token_ids"].astype("int64")),
        ).logits.numpy()
    ours = keras.ops.convert_to_numpy(model(x))
    real = x["decoder_padding_mask"]
    np.testing.assert_allclose(ours[real], theirs[real], atol=1e-3)


def test_a_head_for_a_bare_backbone_is_scaled_as_t5_was_trained(make_theirs, tmp_path):
    make_theirs("t5").save_pretrained(tmp_path)
    backbone = kft.load_pretrained(tmp_path)
    whole = kft.models.language_model(backbone)
    assert whole.get_layer("head_scale").scale == pytest.approx(24**-0.5)
    kft.save_pretrained(whole, tmp_path / "whole")
    plain = kft.models.language_model(backbone, scale=1.0)
    assert not any(layer.name == "head_scale" for layer in plain.layers)
    kft.save_pretrained(plain, tmp_path / "plain")
    for name, scaled in (("whole", True), ("plain", False)):
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert (config["tie_word_embeddings"], config["scale_decoder_outputs"]) == (True, scaled)
        again = kft.load_pretrained(tmp_path / name, head=True)
        assert any(layer.name == "head_scale" for layer in again.layers) is scaled


def test_other_families_scale_no_head():
    backbone = kft.models.transformer_decoder(30, 1, 2, 8, max_length=16)
    model = kft.models.language_model(backbone, scale=0.5)
    with pytest.raises(ValueError, match=r"another head than this model, in scale.*scale=1.0"):
        kft.save_pretrained(model, "never")


def test_the_head_is_what_the_file_holds(make_theirs, tmp_path):
    """Whatever the config says: older files tell of it, those of `transformers` 5 do not."""
    make_theirs("t5_v1_1", "ForConditionalGeneration").save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" in weights
    for told in (True, False):
        changed_config(tmp_path, tie_word_embeddings=told)
        model = kft.load_pretrained(tmp_path, head=True)
        found = keras.ops.convert_to_numpy(model.get_layer("head_projection").kernel)
        np.testing.assert_array_equal(found, weights["lm_head.weight"].T)
    # Some files hold the embedding once more.
    weights["lm_head.weight"] = weights["shared.weight"]
    weights["decoder.embed_tokens.weight"] = weights["shared.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    model = kft.load_pretrained(tmp_path, head=True)
    assert not any(layer.name == "head_projection" for layer in model.layers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feed_forward_proj": "gated-relu"}, "feed_forward_proj='gated-relu'; known are relu"),
        ({"dense_act_fn": "gelu_new"}, "dense_act_fn='gelu_new', which is not supported"),
        ({"is_encoder_decoder": False}, "is_encoder_decoder=False, which is not supported"),
        ({"d_kv": None}, "d_kv=None, where a positive int is needed"),
        ({"relative_attention_num_buckets": 16}, "relative_attention_bias.weight.*the shape"),
    ],
)
def test_configs_that_are_refused(changes, message, make_theirs, tmp_path):
    make_theirs("t5").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        kft.load_pretrained(changed_config(tmp_path, **changes))


def test_a_config_may_leave_out_what_t5_was_made_with(make_theirs, tmp_path):
    make_theirs("t5").save_pretrained(tmp_path)
    whole = kft.load_pretrained(tmp_path).get_config()
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("feed_forward_proj", "dense_act_fn", "is_gated_act", "is_encoder_decoder"):
        del config[name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert kft.load_pretrained(tmp_path).get_config() == whole
