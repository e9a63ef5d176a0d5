"""The tokenizer inside a GGUF file."""

from collections.abc import Iterator, Mapping
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from keras_finetune.data import Tokenizer

# What a piece of text is cut at before byte pairs are merged, by the file's name for it.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {"llama-bpe": _WORDS % "{1,3}", "qwen2": _WORDS % ""}
_GPT2 = ("default", "gpt-2")
_SINGLE_DIGITS = ("smollm",)
_CONTROL, _UNKNOWN, _BYTE = 3, 2, 6


def build_tokenizer(fields: Mapping[str, Any]) -> Tokenizer:
    """Build a tokenizer of the fields `tokenizer.*` of a GGUF file.

    Args:
        fields: The file's fields, by name.

    Raises:
        ValueError: It is of a kind that is not known.
    """
    missing = [
        name for name in ("model", "tokens", "token_type") if f"tokenizer.ggml.{name}" not in fields
    ]
    if missing:
        raise ValueError(f"The file lacks tokenizer.ggml.{missing[0]}.")
    kind = fields["tokenizer.ggml.model"]
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    types: list[int] = fields["tokenizer.ggml.token_type"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if kind == "gpt2":
        tokenizer = _byte_pairs(fields, vocabulary)
    elif kind == "llama":
        tokenizer = _sentence_pieces(fields, vocabulary)
    else:
        raise ValueError(f"The file's tokenizer is of kind {kind!r}; known are gpt2 and llama.")
    tokenizer.add_special_tokens(
        [
            tokenizers.AddedToken(token, special=True, normalized=False)
            for token, type_ in zip(tokens, types, strict=True)
            if type_ in (_CONTROL, _UNKNOWN)
        ]
    )
    roles = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    special = {
        role: tokens[fields[f"tokenizer.ggml.{name}_token_id"]]
        for role, name in roles.items()
        if f"tokenizer.ggml.{name}_token_id" in fields
    }
    # Sentence pieces begin a text with it unless the file says not to.
    if fields.get("tokenizer.ggml.add_bos_token", kind == "llama") and "bos" in special:
        bos = special["bos"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos}:1 $B:1",
            special_tokens=[(bos, vocabulary[bos])],
        )
    return Tokenizer(tokenizer, special, fields.get("tokenizer.chat_template"))


def _byte_pairs(fields: Mapping[str, Any], vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
    kind = fields.get("tokenizer.ggml.pre", "default")
    split: Any = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if kind in _SPLITS:
        words = tokenizers.Regex(_SPLITS[kind])
        split = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(words, "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    elif kind in _SINGLE_DIGITS:
        split = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), split])
    elif kind not in _GPT2:
        known = ", ".join([*_GPT2, *_SINGLE_DIGITS, *_SPLITS])
        raise ValueError(
            f"The file cuts text up in a way named {kind!r}; known are {known}. Use the model's "
            "original directory in Hugging Face's format."
        )
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    # Llama 3 takes a word that is a token as it is, whatever merges would make of it.
    model = models.BPE(vocabulary, merges, ignore_merges=kind == "llama-bpe")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentence_pieces(fields: Mapping[str, Any], vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
    unknown = fields.get("tokenizer.ggml.unknown_token_id", 0)
    merges = list(_merges(vocabulary, fields["tokenizer.ggml.scores"]))
    model = models.BPE(
        vocabulary,
        merges,
        unk_token=fields["tokenizer.ggml.tokens"][unknown],
        fuse_unk=True,
        byte_fallback=_BYTE in fields["tokenizer.ggml.token_type"],
    )
    tokenizer = tokenizers.Tokenizer(model)
    steps: list[Any] = [normalizers.Replace(" ", "▁")]
    ends: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if fields.get("tokenizer.ggml.add_space_prefix", True):
        steps.insert(0, normalizers.Prepend("▁"))
        ends.append(decoders.Strip(" ", 1, 0))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.decoder = decoders.Sequence(ends)
    return tokenizer


def _merges(vocabulary: dict[str, int], scores: list[float]) -> Iterator[tuple[str, str]]:
    """Yield the pairs that make pieces of pieces, those of the best score first."""
    found = []
    for piece, number in vocabulary.items():
        pairs = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [pair for pair in pairs if pair[0] in vocabulary and pair[1] in vocabulary]
        known.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
        found += [(scores[number], pair) for pair in known]
    found.sort(key=lambda scored: scored[0], reverse=True)
    for _, pair in found:
        yield pair
