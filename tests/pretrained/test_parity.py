"""Logits and features equal those of `transformers`, and what is saved is read by it."""

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import keras_finetune as kft

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from .conftest import FAMILIES, HEADS, LABELS  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
# Every kind of layer once; the rest differs in names only.
ON_ALL_BACKENDS = [("bert", "ForMaskedLM"), ("llama3_long", "Model"), ("qwen3", "ForCausalLM")]
ON_ALL_BACKENDS += [("bart", "ForConditionalGeneration"), ("roberta", "ForQuestionAnswering")]
ON_ALL_BACKENDS += [("t5_v1_1", "ForConditionalGeneration")]
CASES = [
    pytest.param(
        family,
        suffix,
        id=f"{family}-{suffix}",
        marks=[pytest.mark.backends] if (family, suffix) in ON_ALL_BACKENDS else [],
    )
    for family, (_, _, name) in FAMILIES.items()
    for suffix in ("Model", *HEADS[name])
]


def their_outputs(model, inputs):
    given = {
        "input_ids": inputs["token_ids"].astype("int64"),
        "attention_mask": inputs["padding_mask"].astype("int64"),
    }
    if "segment_ids" in inputs:
        given["token_type_ids"] = inputs["segment_ids"].astype("int64")
    if "decoder_token_ids" in inputs:
        given["decoder_input_ids"] = inputs["decoder_token_ids"].astype("int64")
        given["decoder_attention_mask"] = inputs["decoder_padding_mask"].astype("int64")
    with torch.no_grad():
        found = model(**{name: torch.tensor(value) for name, value in given.items()})
    if "start_logits" in found:
        return np.stack([found.start_logits.numpy(), found.end_logits.numpy()], axis=-1)
    return (found.logits if "logits" in found else found.last_hidden_state).numpy()


def our_outputs(model, inputs):
    if "mask_positions" in model.input:
        rows, width = inputs["token_ids"].shape
        inputs = {**inputs, "mask_positions": np.tile(np.arange(width, dtype="int32"), (rows, 1))}
    return keras.ops.convert_to_numpy(model(inputs))


def inputs_for(model, batch, pad):
    segments = model.get_layer("segment_embedding").input_dim if "segment_ids" in model.input else 1
    inputs = batch(segments=segments, pad=pad)
    if "decoder_token_ids" in model.input:
        target = batch(lengths=(3, 9, 6), width=9, seed=1, pad=pad)
        inputs |= {f"decoder_{name}": value for name, value in target.items()}
    return inputs


@pytest.mark.parametrize(("family", "suffix"), CASES)
def test_equal_to_transformers(family, suffix, make_theirs, batch, tmp_path):
    model = make_theirs(family, suffix)
    model.save_pretrained(tmp_path / "theirs")
    ours = kft.load_pretrained(tmp_path / "theirs", head=suffix != "Model")
    inputs = inputs_for(ours, batch, model.config.pad_token_id)
    expected, got = their_outputs(model, inputs), our_outputs(ours, inputs)
    assert got.shape == expected.shape
    mask = inputs.get("decoder_padding_mask", inputs["padding_mask"])
    if got.ndim == 3:  # a classifier has one row a text
        expected, got = expected[mask], got[mask]
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
    if suffix == "ForSequenceClassification":
        assert ours.labels == LABELS

    # And back: transformers reads what is saved, to the same logits and the very same numbers.
    kft.save_pretrained(ours, tmp_path / "ours")
    again, report = type(model).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["unexpected_keys"]
    assert all("pooler" in name for name in report["missing_keys"])
    np.testing.assert_array_equal(their_outputs(again.eval(), inputs), their_outputs(model, inputs))
    before, after = (load_file(tmp_path / who / "model.safetensors") for who in ("theirs", "ours"))
    assert after.keys() <= before.keys()
    assert all("pooler" in name for name in before.keys() - after.keys())
    for name, value in after.items():
        assert value.tobytes() == before[name].tobytes(), name


@pytest.mark.parametrize(("family", "name"), [("bert", "cls.predictions"), ("roberta", "lm_head")])
def test_the_bias_of_an_untied_masked_head(family, name, make_theirs, batch, tmp_path):
    model = make_theirs(family, "ForMaskedLM", tie_word_embeddings=False)
    model.save_pretrained(tmp_path / "theirs")
    ours = kft.load_pretrained(tmp_path / "theirs", head=True)
    inputs = inputs_for(ours, batch, model.config.pad_token_id)
    mask, expected = inputs["padding_mask"], their_outputs(model, inputs)
    np.testing.assert_allclose(our_outputs(ours, inputs)[mask], expected[mask], atol=1e-4)
    kft.save_pretrained(ours, tmp_path / "ours")
    again = type(model).from_pretrained(tmp_path / "ours").eval()
    np.testing.assert_array_equal(their_outputs(again, inputs), expected)
    # Older files have it under one name.
    tensors = load_file(tmp_path / "ours" / "model.safetensors")
    bias = tensors.pop(f"{name}.decoder.bias")
    np.testing.assert_array_equal(tensors[f"{name}.bias"], bias)
    save_file(tensors, tmp_path / "ours" / "model.safetensors")
    older = kft.load_pretrained(tmp_path / "ours", head=True)
    np.testing.assert_array_equal(our_outputs(older, inputs), our_outputs(ours, inputs))


@pytest.mark.parametrize("suffix", ["Model", "ForConditionalGeneration"])
def test_bart_with_tables_that_are_not_tied(suffix, make_theirs, batch, tmp_path):
    """`transformers` then has one for each side, which are the same number of times `shared`."""
    theirs = make_theirs("bart", suffix, tie_word_embeddings=False)
    theirs.save_pretrained(tmp_path / "theirs")
    with pytest.raises(ValueError, match=r"encoder.embed_tokens.weight.* differs from .*shared"):
        kft.load_pretrained(tmp_path / "theirs", head=suffix != "Model")

    inner = theirs if suffix == "Model" else theirs.model
    with torch.no_grad():
        for side in (inner.encoder, inner.decoder):
            side.embed_tokens.weight.copy_(inner.shared.weight)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = kft.load_pretrained(tmp_path / "theirs", head=suffix != "Model")
    inputs = inputs_for(ours, batch, theirs.config.pad_token_id)
    mask, expected = inputs["decoder_padding_mask"], their_outputs(theirs, inputs)
    np.testing.assert_allclose(our_outputs(ours, inputs)[mask], expected[mask], atol=1e-4)

    kft.save_pretrained(ours, tmp_path / "ours")
    again, report = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["unexpected_keys"]
    assert not report["missing_keys"]
    np.testing.assert_array_equal(their_outputs(again.eval(), inputs), expected)
    loaded = kft.load_pretrained(tmp_path / "ours", head=suffix != "Model")
    np.testing.assert_array_equal(our_outputs(loaded, inputs), our_outputs(ours, inputs))


def test_a_bart_of_ours_that_is_not_tied(batch, tmp_path):
    backbone = kft.models.encoder_decoder(
        97,
        num_layers=1,
        num_heads=2,
        hidden_dim=16,
        max_length=48,
        norm_first=False,
        norm_epsilon=1e-5,
        position_offset=2,
    )
    ours = kft.models.language_model(backbone, tied=False, use_bias=True)
    kft.save_pretrained(ours, tmp_path / "ours")
    theirs = transformers.BartForConditionalGeneration.from_pretrained(tmp_path / "ours").eval()
    inputs = inputs_for(ours, batch, 1)
    mask, expected = inputs["decoder_padding_mask"], their_outputs(theirs, inputs)
    np.testing.assert_allclose(our_outputs(ours, inputs)[mask], expected[mask], atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_config_survives_without_the_loaded_one(family, make_theirs, tmp_path):
    model = make_theirs(family)
    model.save_pretrained(tmp_path / "theirs")
    ours = kft.load_pretrained(tmp_path / "theirs")
    ours.save(tmp_path / "model.keras")
    plain = kft.load_model(tmp_path / "model.keras")
    assert not hasattr(plain, "pretrained_config")
    kft.save_pretrained(plain, tmp_path / "ours")
    again = kft.load_pretrained(tmp_path / "ours")
    for before, after in zip(ours.weights, again.weights, strict=True):
        assert before.path == after.path
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (before, after)))
    assert [layer.get_config() for layer in again.layers if "block" in layer.name] == [
        layer.get_config() for layer in ours.layers if "block" in layer.name
    ]


@pytest.mark.backends
def test_prefix_and_bare_files_are_the_same_model(make_theirs, tmp_path):
    model = make_theirs("bert", "ForSequenceClassification")
    model.save_pretrained(tmp_path / "whole")
    model.bert.save_pretrained(tmp_path / "bare")
    whole, bare = (kft.load_pretrained(tmp_path / name) for name in ("whole", "bare"))
    for one, other in zip(whole.weights, bare.weights, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (one, other)))
    with pytest.raises(ValueError, match="BertModel, whose head is not known"):
        kft.load_pretrained(tmp_path / "bare", head=True)
