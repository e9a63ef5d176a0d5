"""Tokenizers out of the files that pretrained models come with."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

# What a special token is for, and the names it usually has.
ROLES: dict[str, tuple[str, ...]] = {
    "pad": ("[PAD]", "<pad>", "<|pad|>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]",),
    "sep": ("[SEP]",),
    "mask": ("[MASK]", "<mask>"),
    "bos": ("[BOS]", "<s>", "<bos>", "<|begin_of_text|>", "<|endoftext|>"),
    "eos": ("[EOS]", "</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"),
}
_KINDS = (("tokenizer.json",), ("vocab.txt",), ("vocab.json", "merges.txt"))


def read_tokenizer(
    path: str | Path, lowercase: bool | None = None
) -> tuple[tokenizers.Tokenizer, dict[str, str], str | None]:
    """Read a tokenizer from a directory or a file.

    Args:
        path: A directory with one of ``tokenizer.json``, ``vocab.txt`` (BERT), ``vocab.json`` and
            ``merges.txt`` (GPT-2, RoBERTa); or one of these files. Each may be gzipped (``.gz``).
        lowercase: For ``vocab.txt``: whether the model is uncased. Default: what
            ``tokenizer_config.json`` beside it says (``do_lower_case``), else uncased if no word
            of the vocabulary has a capital letter.

    Returns:
        The tokenizer, without truncation and padding, the special tokens by role, and the chat
        template if there is one.

    Raises:
        FileNotFoundError: Nothing of the kind is there.
        ValueError: A file is not what its name says.
    """
    files = _find(Path(path))
    folder = files[0].parent
    config = _json_beside(folder, "tokenizer_config.json")
    noted = {**_json_beside(folder, "special_tokens_map.json"), **config}
    kind = files[0].name.removesuffix(".gz")
    try:
        if len(files) == 2:
            tokenizer = _gpt2(json.loads(_text(files[0])), _text(files[1]))
        elif kind.endswith(".json"):
            tokenizer = tokenizers.Tokenizer.from_str(_text(files[0]))
        else:
            tokenizer = _bert(_vocabulary(_text(files[0])), config, lowercase)
    except Exception as error:  # tokenizers raises bare Exceptions for malformed files
        raise ValueError(f'"{files[0]}" is not a tokenizer file: {error}') from error
    # Padding is the pipeline's work, and truncation is asked for with each call.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, special_tokens(tokenizer, noted), _chat_template(folder, config)


def special_tokens(tokenizer: tokenizers.Tokenizer, noted: Mapping[str, Any]) -> dict[str, str]:
    """Find the special token of each role: as noted in Hugging Face's files, else by its name."""
    found = {}
    for role, usual in ROLES.items():
        entry = noted.get(f"{role}_token")
        name = entry.get("content") if isinstance(entry, dict) else entry
        for token in (name, *usual):
            if isinstance(token, str) and tokenizer.token_to_id(token) is not None:
                found[role] = token
                break
    return found


def bert_template(tokenizer: tokenizers.Tokenizer) -> Any:
    """Return the post-processor ``[CLS] text [SEP] pair [SEP]``."""
    marks = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    return processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=marks
    )


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Return the template of conversations, from its own file or from the config."""
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text("utf-8")
    found = config.get("chat_template")
    if isinstance(found, list):  # several, by name
        named = {entry.get("name"): entry.get("template") for entry in found}
        found = named.get("default")
    return found if isinstance(found, str) else None


def _find(path: Path) -> list[Path]:
    if path.is_dir():
        for names in _KINDS:
            found = [_maybe_gzipped(path / name) for name in names]
            if all(file.exists() for file in found):
                return found
        there = ", ".join(sorted(child.name for child in path.iterdir())[:20]) or "nothing"
        raise FileNotFoundError(
            f'"{path}" has no tokenizer.json, vocab.txt, or vocab.json with merges.txt (each may '
            f"end in .gz). In it: {there}"
        )
    if not path.exists():
        raise FileNotFoundError(f'There is no tokenizer file or directory "{path}"')
    name = path.name.removesuffix(".gz")
    if name in ("vocab.json", "merges.txt"):
        pair = [_maybe_gzipped(path.parent / other) for other in ("vocab.json", "merges.txt")]
        for file in pair:
            if not file.exists():
                raise FileNotFoundError(f'"{path}" is one of a pair; there is no "{file}"')
        return pair
    return [path]


def _maybe_gzipped(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    return packed if packed.exists() and not path.exists() else path


def _text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.name.endswith(".gz") else data).decode("utf-8")


def _json_beside(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    try:
        return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'"{path}" is no JSON object: {error}. Take the file that came with the model.'
        ) from None


def _vocabulary(text: str) -> dict[str, int]:
    # Only "\n" ends a line: the vocabularies hold characters that splitlines() would split at.
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    if "[UNK]" not in lines:
        raise ValueError("a BERT vocabulary has a line [UNK]")
    # Of a token in two lines the last counts, as in transformers.
    return {token: number for number, token in enumerate(lines)}


def _bert(
    vocab: dict[str, int], config: Mapping[str, Any], lowercase: bool | None
) -> tokenizers.Tokenizer:
    if lowercase is None:
        words = (token for token in vocab if token[:1] not in "[<")
        lowercase = config.get("do_lower_case", all(word == word.lower() for word in words))
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=bool(lowercase),
        strip_accents=config.get("strip_accents"),
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(
        [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if token in vocab]
    )
    if "[CLS]" in vocab and "[SEP]" in vocab:
        tokenizer.post_processor = bert_template(tokenizer)
    return tokenizer


def _gpt2(vocab: dict[str, int], merges: str) -> tokenizers.Tokenizer:
    lines = [line.removesuffix("\r") for line in merges.split("\n")]
    pairs = [
        (left, right)
        for left, right in (
            line.split(" ") for line in lines if line and not line.startswith("#version")
        )
    ]
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>")
    tokenizer.add_special_tokens([token for token in marks if token in vocab])
    if "<s>" in vocab and "</s>" in vocab:  # RoBERTa's, which has the same two files
        tokenizer.post_processor = processors.RobertaProcessing(
            ("</s>", vocab["</s>"]), ("<s>", vocab["<s>"]), add_prefix_space=False
        )
    return tokenizer
