"""What `load_pretrained` refuses, before anything is built."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import keras_finetune as kft
from keras_finetune import models

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def directory(make_theirs, tmp_path):
    make_theirs("bert", "ForSequenceClassification").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(autouse=True)
def _nothing_is_built(monkeypatch):
    monkeypatch.setattr(models, "transformer_encoder", lambda **_: pytest.fail("was built"))


def change_tensors(directory, change):
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def change_config(directory, **more):
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


QUERY = "bert.encoder.layer.1.attention.self.query.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(QUERY), r'lacks the tensor "encoder.layer.1.attention.self.query.weight"'),
        (
            lambda t: t.update({QUERY: t[QUERY][:, :5].copy()}),
            r'"encoder.layer.1.*query.weight" has the shape \(24, 5\), where .* \(24, 24\)',
        ),
        (
            lambda t: t.update({"bert.encoder.layer.7.x": t[QUERY].copy()}),
            r'tensor "encoder.layer.7.x" that the model has no place for',
        ),
        (lambda t: t[QUERY].__setitem__((3, 4), np.nan), r"query.weight\" holds NaN or infinity"),
        (lambda t: t[QUERY].__setitem__((0, 0), -np.inf), r"query.weight\" holds NaN or infinity"),
        (
            lambda t: t.update({QUERY: t[QUERY].astype("int8")}),
            r"query.weight\" is stored as int8.*quantized checkpoint must be converted",
        ),
    ],
)
def test_wrong_tensors_are_named(directory, change, message):
    change_tensors(directory, change)
    with pytest.raises(ValueError, match=message):
        kft.load_pretrained(directory)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_nan_is_found_in_every_dtype(directory, dtype):
    change_tensors(directory, lambda t: t.update({QUERY: t[QUERY].astype(np.dtype(dtype))}))
    change_tensors(directory, lambda t: t[QUERY].__setitem__((3, 4), np.nan))
    with pytest.raises(ValueError, match=r"query.weight.* holds NaN"):
        kft.load_pretrained(directory)


@pytest.mark.parametrize("dtype", ["float16", "mixed_float16"])
def test_a_weight_beyond_float16(directory, dtype):
    change_tensors(directory, lambda t: t[QUERY].__setitem__((3, 4), -65520.0))
    with pytest.raises(ValueError, match=r"query.weight\" holds -65520.*65504.*bfloat16"):
        kft.load_pretrained(directory, dtype=dtype)


def test_truncated_file(directory):
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model.safetensors\" is not a whole .*truncated"):
        kft.load_pretrained(directory)


def test_pickles_are_never_read(directory):
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch x'\ntR.")
    with pytest.raises(FileNotFoundError, match=r"pytorch_model.bin, a pickle.*save_pretrained"):
        kft.load_pretrained(directory)


@pytest.mark.parametrize("place", ["../model.safetensors", "/etc/passwd", "weights.bin"])
def test_an_index_cannot_leave_the_directory(directory, place):
    (directory / "model.safetensors").unlink()
    index = {"weight_map": {QUERY: place}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="in the model's own directory"):
        kft.load_pretrained(directory)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "mamba"}, "no model type 'mamba'.*Known are bart, bert.*KerasHub"),
        ({"model_type": "berrt"}, 'Did you mean "bert"'),
        ({"hidden_size": "wide"}, "hidden_size='wide', where a positive int is needed"),
        ({"hidden_act": "mish"}, "hidden_act='mish'; known are gelu"),
        ({"position_embedding_type": "relative_key"}, "'relative_key', which is not supported"),
        ({"hidden_size": 48}, "has the shape .*, where the config says"),
    ],
)
def test_wrong_configs(directory, config, message):
    change_config(directory, **config)
    with pytest.raises(ValueError, match=message):
        kft.load_pretrained(directory)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"layer_norm_eps": None}, "layer_norm_eps=None, where a number is needed"),
        ({"layer_norm_eps": "1e-5"}, "layer_norm_eps='1e-5', where a number is needed"),
        ({"hidden_dropout_prob": True}, "hidden_dropout_prob=True, where a number is needed"),
        ({"id2label": ["a", "b"]}, r"id2label=\['a', 'b'\], where an object is needed"),
        ({"id2label": {"a": "b"}}, "must number labels from 0"),
        ({"id2label": None, "num_labels": None}, "num_labels=None, where a positive int"),
        ({"architectures": "BertModel"}, "architectures='BertModel', where a list is needed"),
    ],
)
def test_values_of_a_wrong_kind(directory, config, message):
    change_config(directory, **config)
    with pytest.raises(ValueError, match=message):
        kft.load_pretrained(directory, head=True)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"rope_parameters": [1]}, r"rope_parameters=\[1\], where an object is needed"),
        ({"rope_parameters": {"rope_theta": "abc"}}, "rope_theta='abc', where a number"),
        ({"rope_theta": "abc"}, "rope_theta='abc', where a number is needed"),
        ({"rms_norm_eps": None}, "rms_norm_eps=None, where a number is needed"),
    ],
)
def test_values_of_a_wrong_kind_in_llama(tmp_path, make_theirs, config, message):
    make_theirs("llama").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    usual = json.loads(path.read_text())
    usual.pop("rope_parameters", None)
    path.write_text(json.dumps({**usual, **config}))
    with pytest.raises(ValueError, match=message):
        kft.load_pretrained(tmp_path)


@pytest.mark.parametrize("index", [None, [], {"weight_map": None}, {"weight_map": ["x"]}])
def test_an_index_that_is_none(directory, index):
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r'index.json" is no index.*an object whose "weight_map"'):
        kft.load_pretrained(directory)


def test_no_model_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        kft.load_pretrained(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FileNotFoundError, match=r"has no config.json.*In it: notes.txt"):
        kft.load_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{not json")
    with pytest.raises(ValueError, match=r"config.json.* is not valid JSON"):
        kft.load_pretrained(tmp_path)


def test_tokenizer_of_another_size(directory):
    words = [chr(number) for number in range(0x4E00, 0x4E00 + 400)]
    kft.data.Tokenizer.train(words, 300, "wordpiece", min_frequency=1, progress=False).save(
        directory
    )
    expected = r'The tokenizer has 405 tokens.*"embeddings.word_embeddings.weight" has 97 rows'
    with pytest.raises(ValueError, match=expected):
        kft.load_pretrained(directory)


def test_tokenizer_of_sentence_pieces_only(directory):
    (directory / "spiece.model").write_bytes(b"")
    with pytest.raises(ValueError, match=r"tokenizer in spiece.model only.*tokenizer.json"):
        kft.load_pretrained(directory)


def test_head_of_no_task_here(directory):
    change_config(directory, architectures=["BertForTokenClassification"])
    with pytest.raises(ValueError, match=r"BertForTokenClassification.*Load the backbone alone"):
        kft.load_pretrained(directory, head=True)


def test_regression(directory):
    change_config(directory, problem_type="regression")
    with pytest.raises(ValueError, match="regression"):
        kft.load_pretrained(directory, head=True)


def test_bad_arguments(directory):
    with pytest.raises(ValueError, match=r"dtype must be one of float32.*'float8'"):
        kft.load_pretrained(directory, dtype="float8")
    with pytest.raises(ValueError, match="quantize must be one of int8"):
        kft.load_pretrained(directory, quantize="int3")
