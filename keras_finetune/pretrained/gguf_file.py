"""GGUF files of the Llama family, which llama.cpp reads."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from keras_finetune.data import Tokenizer
from keras_finetune.pretrained.gguf_tokenizer import build_tokenizer

_NAMES = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class GGUFCheckpoint:
    """A GGUF file as if it were a directory in Hugging Face's format.

    Quantized tensors are turned to float32 when they are read.

    Args:
        path: The file.

    Attributes:
        config: What `config.json` would say.
        shapes: The shape of every tensor, by Hugging Face's name.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: `gguf` is not installed.
        ValueError: It is no whole GGUF file, or not of the Llama family.
    """

    def __init__(self, path: Path) -> None:
        try:
            import gguf
        except ImportError as error:
            raise ImportError(
                'Reading .gguf files needs: pip install "keras_finetune[gguf]"'
            ) from error
        if not path.is_file():
            raise FileNotFoundError(f'There is no file "{path}"')
        try:
            reader = gguf.GGUFReader(path)
        except (ValueError, IndexError, KeyError) as error:
            raise ValueError(
                f'"{path}" is not a whole GGUF file ({error}). It may be truncated: download it '
                "again."
            ) from error
        self._dequantize = gguf.dequantize
        self._fields = {name: field.contents() for name, field in reader.fields.items()}
        self._tensors = {_their_name(tensor.name): tensor for tensor in reader.tensors}
        self.config = self._read_config()
        # GGUF counts dimensions from the last; a factor of long contexts is no weight.
        self.shapes = {
            name: tuple(int(size) for size in reversed(tensor.shape))
            for name, tensor in self._tensors.items()
            if name != "rope_freqs.weight"
        }

    def read(self, name: str) -> np.ndarray:
        """Return a tensor in float32."""
        tensor = self._tensors[name]
        value = self._dequantize(tensor.data, tensor.tensor_type)
        value = np.asarray(value, np.float32).reshape(self.shapes[name])
        part = name.rsplit(".", 2)[-2]
        if self.config["model_type"] == "llama" and part in ("q_proj", "k_proj"):
            kind = "attention" if part == "q_proj" else "key_value"
            return _unpermuted(value, self.config[f"num_{kind}_heads"])
        return value

    def tokenizer(self) -> Tokenizer:
        """Build the tokenizer that the file holds."""
        return build_tokenizer(self._fields)

    def _read_config(self) -> dict[str, Any]:
        kind = self._fields.get("general.architecture")
        if kind not in ("llama", "qwen2", "qwen3"):
            raise ValueError(
                f"The file's architecture is {kind!r}; of GGUF files, llama, qwen2 and qwen3 can "
                "be read."
            )
        if "rope_freqs.weight" in self._tensors:
            raise ValueError(
                "The file scales its rotary positions by a table (rope_freqs.weight), which is "
                "not supported. Use the model's original directory in Hugging Face's format."
            )

        def field(name: str, default: Any = None) -> Any:
            value = self._fields.get(f"{kind}.{name}", default)
            if value is None:
                raise ValueError(f'The file lacks the field "{kind}.{name}".')
            return value

        scaling = None
        if self._fields.get(f"{kind}.rope.scaling.type") not in (None, "none"):
            scaling = {
                "rope_type": field("rope.scaling.type"),
                "factor": field("rope.scaling.factor"),
            }
        heads, width = field("attention.head_count"), field("embedding_length")
        return {
            "model_type": kind,
            "architectures": [f"{kind.capitalize()}ForCausalLM"],
            "vocab_size": len(field_of(self._fields, "tokenizer.ggml.tokens")),
            "num_hidden_layers": field("block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": field("attention.head_count_kv", heads),
            "head_dim": field("attention.key_length", width // heads),
            "hidden_size": width,
            "intermediate_size": field("feed_forward_length"),
            "max_position_embeddings": field("context_length"),
            "rms_norm_eps": _shortest(field("attention.layer_norm_rms_epsilon")),
            "hidden_act": "silu",
            "rope_theta": field("rope.freq_base", 10000.0),
            "rope_scaling": scaling,
            "tie_word_embeddings": "lm_head.weight" not in self._tensors,
        }


def field_of(fields: dict[str, Any], name: str) -> Any:
    """Return a field of a GGUF file.

    Raises:
        ValueError: It is not there.
    """
    if name not in fields:
        raise ValueError(f'The file lacks the field "{name}".')
    return fields[name]


def _their_name(name: str) -> str:
    """Translate a tensor's name to Hugging Face's."""
    stem, _, kind = name.rpartition(".")
    block = re.fullmatch(r"blk\.(\d+)\.(.+)", stem)
    if block:
        number, part = block.groups()
        return f"layers.{number}.{_NAMES.get(part, part)}.{kind}"
    return f"{_NAMES.get(stem, stem)}.{kind}"


def _unpermuted(value: np.ndarray, heads: int) -> np.ndarray:
    """Undo the order of rows that llama.cpp turns neighbouring dimensions in."""
    rows = value.reshape(heads, -1, 2, *value.shape[1:])
    return rows.swapaxes(1, 2).reshape(value.shape)


def _shortest(number: float) -> float:
    """Return 1e-05 for a float32 of 9.999999747378752e-06."""
    return float(str(np.float32(number)))
