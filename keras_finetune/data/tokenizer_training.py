"""Train a tokenizer on one's own text."""

import json
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from keras_finetune.data.progress import track
from keras_finetune.data.text_checks import check_text, refuse_surrogates
from keras_finetune.data.tokenizer_files import bert_template
from keras_finetune.suggest import did_you_mean

KINDS = ("bpe", "wordpiece", "char")
_BATCH = 1_000
_NO_TEXTS = "texts is empty: there is nothing to train the tokenizer on"


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    kind: str,
    *,
    lowercase: bool,
    min_frequency: int,
    special_tokens: Sequence[str],
    progress: bool,
) -> tokenizers.Tokenizer:
    """Learn a vocabulary from texts; see `Tokenizer.train`."""
    if kind not in KINDS:
        raise ValueError(f'kind="{kind}": there are {", ".join(KINDS)}.{did_you_mean(kind, KINDS)}')
    if isinstance(texts, str):
        raise ValueError("texts is one str; pass an iterable of texts, for example [text]")
    if isinstance(texts, Sized) and not len(texts):
        raise ValueError(_NO_TEXTS)
    smallest = len(special_tokens) + (256 if kind == "bpe" else 1)  # bpe: a token a byte
    if vocab_size < smallest:
        raise ValueError(f"vocab_size={vocab_size} is too small: {kind} needs {smallest} or more")
    unk = "[UNK]" if "[UNK]" in special_tokens else None
    if unk is None and kind != "bpe":
        raise ValueError(f'kind="{kind}" needs "[UNK]" in special_tokens; got {special_tokens}')
    options: dict[str, Any] = {
        "vocab_size": vocab_size,
        "min_frequency": min_frequency,
        "special_tokens": list(special_tokens),
        "show_progress": False,
    }
    trainer: Any
    if kind == "bpe":
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Lowercase() if lowercase else None
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(initial_alphabet=alphabet, **options)
    elif kind == "wordpiece":
        tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token=unk))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        if iter(texts) is texts:
            texts = list(texts)
        pieces = _single_pieces(texts, tokenizer)
        trainer = trainers.WordPieceTrainer(
            **{**options, "special_tokens": [*special_tokens, *pieces]}
        )
    else:
        tokenizer = tokenizers.Tokenizer(models.WordLevel(unk_token=unk))
        tokenizer.normalizer = normalizers.Lowercase() if lowercase else None
        every_character = tokenizers.Regex(r"[\s\S]")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(every_character, "isolated")
        tokenizer.decoder = decoders.Fuse()
        trainer = trainers.WordLevelTrainer(**options)
    tokenizer.train_from_iterator(_batches(texts, progress), trainer)
    if kind == "wordpiece":
        tokenizer = _with_special_tokens(tokenizer, special_tokens)
    if "[CLS]" in special_tokens and "[SEP]" in special_tokens:
        tokenizer.post_processor = bert_template(tokenizer)
    return tokenizer


def _single_pieces(texts: Iterable[str], tokenizer: tokenizers.Tokenizer) -> list[str]:
    """Return ``##c`` for each character that can go on a word, sorted.

    The trainer numbers these in the order of a randomly seeded hash map and breaks ties by number,
    so that two runs would differ. Given as special tokens they have their numbers beforehand.
    """
    characters: set[str] = set()
    for row, text in enumerate(texts):
        check_text(text, row)
        refuse_surrogates([text], row)
        characters.update(text)
    found = set()
    for character in characters:
        text = tokenizer.normalizer.normalize_str("a" + character)
        words = tokenizer.pre_tokenizer.pre_tokenize_str(text)
        if len(words) == 1:
            found.update(words[0][0][1:])
    return [f"##{character}" for character in sorted(found)]


def _with_special_tokens(
    trained: tokenizers.Tokenizer, special_tokens: Sequence[str]
) -> tokenizers.Tokenizer:
    """Return the tokenizer with these special tokens only, and not those of the training."""
    state = json.loads(trained.to_str())
    state["added_tokens"] = []
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(state))
    tokenizer.add_special_tokens(list(special_tokens))
    return tokenizer


def _batches(texts: Iterable[str], progress: bool) -> Iterator[list[str]]:
    batch: list[str] = []
    row = -1
    for row, text in enumerate(track(texts, "Training the tokenizer") if progress else texts):
        check_text(text, row)
        refuse_surrogates([text], row)
        batch.append(text)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if row < 0:
        raise ValueError(_NO_TEXTS)
    yield batch
