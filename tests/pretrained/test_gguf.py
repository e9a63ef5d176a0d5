"""GGUF files, written here by the `gguf` package."""

import keras
import numpy as np
import pytest
import tokenizers

import keras_finetune as kft
from keras_finetune.pretrained.gguf_file import GGUFCheckpoint
from keras_finetune.pretrained.gguf_tokenizer import build_tokenizer

gguf = pytest.importorskip("gguf")
pytestmark = pytest.mark.filterwarnings("ignore")
TOKENS = ["<unk>", "<s>", "</s>", "▁", "a", "b", "c", "ab", "▁ab", "bc"]
SCORES = [0.0, 0.0, 0.0, -9.0, -9.0, -9.0, -9.0, -1.0, -2.0, -3.0]
TYPES = [2, 3, 3, 1, 1, 1, 1, 1, 1, 1]


def write(path, arch="llama", tied=False, *, width=12, heads=3, kv_heads=1):
    """Write a model of random weights; return its tensors in Hugging Face's order of rows."""
    rows = len(TOKENS)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(1)
    writer.add_context_length(32)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(20)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(5000.0)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(TOKENS)
    writer.add_token_scores(SCORES)
    writer.add_token_types(TYPES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    rng, small = np.random.default_rng(0), width // heads * kv_heads
    shapes = {
        "token_embd": (rows, width),
        "blk.0.attn_norm": (width,),
        "blk.0.attn_q": (width, width),
        "blk.0.attn_k": (small, width),
        "blk.0.attn_v": (small, width),
        "blk.0.attn_output": (width, width),
        "blk.0.ffn_norm": (width,),
        "blk.0.ffn_gate": (20, width),
        "blk.0.ffn_up": (20, width),
        "blk.0.ffn_down": (width, 20),
        "output_norm": (width,),
    }
    if not tied:
        shapes["output"] = (rows, width)
    tensors = {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    for name, value in tensors.items():
        count = {"q": heads, "k": kv_heads}.get(name[-1]) if "attn_" in name else None
        if count and arch == "llama":
            halves = value.reshape(count, 2, -1, width)
            value = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(value.shape))
        writer.add_tensor(f"{name}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


@pytest.mark.parametrize("tied", [True, False])
def test_every_tensor_arrives(tmp_path, tied):
    tensors = write(tmp_path / "m.gguf", tied=tied)
    model = kft.load_pretrained(tmp_path / "m.gguf", head=True)
    block = model.get_layer("block_0")
    config = block.get_config()
    assert (config["norm_epsilon"], config["rope_theta"]) == (1e-5, 5000.0)
    fused = keras.ops.convert_to_numpy(block.attention.query_key_value.kernel)
    parts = [tensors[f"blk.0.attn_{name}"].T for name in "qkv"]
    np.testing.assert_array_equal(fused, np.concatenate(parts, axis=1))
    down = keras.ops.convert_to_numpy(block.feed_forward.down.kernel)
    np.testing.assert_array_equal(down, tensors["blk.0.ffn_down"].T)
    if not tied:
        head = keras.ops.convert_to_numpy(model.get_layer("head_projection").kernel)
        np.testing.assert_array_equal(head, tensors["output"].T)
    assert len(model.weights) == len(tensors) - 2  # query, key and value are one


def test_a_directory_of_it_is_the_same_model(tmp_path):
    write(tmp_path / "m.gguf")
    model = kft.load_pretrained(tmp_path / "m.gguf", head=True)
    kft.save_pretrained(model, tmp_path / "m")
    again = kft.load_pretrained(tmp_path / "m", head=True)
    row = np.array([[1, 4, 5, 8]], "int32")
    inputs = {"token_ids": row, "padding_mask": np.ones_like(row, bool)}
    np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(m(inputs)) for m in (model, again)))
    assert again.tokenizer.encode("ab c") == model.tokenizer.encode("ab c")


def test_sentence_pieces(tmp_path):
    write(tmp_path / "m.gguf")
    tokenizer = kft.load_pretrained(tmp_path / "m.gguf").tokenizer
    tokens = [tokenizer.id_to_token(number) for number in tokenizer.encode("abc ab")]
    # "ab" has the best score and is merged before "bc" can be.
    assert tokens == ["<s>", "▁ab", "c", "▁ab"]
    assert tokenizer.decode(tokenizer.encode("abc ab")) == "abc ab"
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id) == (1, 2, 0)


@pytest.mark.parametrize("kind", ["llama-bpe", "qwen2", "gpt-2"])
def test_byte_pairs_are_cut_as_the_file_says(kind):
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    merges = ["1 2", "12 3", "123 4", "Ġ x"]
    tokens = [*alphabet, "12", "123", "1234", "Ġx", "<|end|>"]
    fields = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": kind,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.token_type": [1] * (len(tokens) - 1) + [3],
        "tokenizer.ggml.eos_token_id": len(tokens) - 1,
    }
    tokenizer = build_tokenizer(fields)
    cut = [tokenizer.id_to_token(number) for number in tokenizer.encode("1234 x<|end|>")]
    digits = {"llama-bpe": ["123", "4"], "qwen2": ["1", "2", "3", "4"], "gpt-2": ["1234"]}[kind]
    assert cut == [*digits, "Ġx", "<|end|>"]
    with pytest.raises(ValueError, match=r"cut.* 'mystery'.*llama-bpe"):
        build_tokenizer({**fields, "tokenizer.ggml.pre": "mystery"})


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere.gguf"):
        kft.load_pretrained(tmp_path / "nowhere.gguf")
    write(tmp_path / "m.gguf")
    whole = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "text.gguf").write_text("not a model at all")
    (tmp_path / "half.gguf").write_bytes(whole[: len(whole) // 2])
    for name in ("text", "half"):
        with pytest.raises(ValueError, match="not a whole GGUF file"):
            kft.load_pretrained(tmp_path / f"{name}.gguf")
    write(tmp_path / "other.gguf", "gemma")
    with pytest.raises(ValueError, match="architecture is 'gemma'"):
        GGUFCheckpoint(tmp_path / "other.gguf")
