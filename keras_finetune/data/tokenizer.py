"""Text to token ids and back."""

import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from keras_finetune.data.encoded_batch import EncodedBatch, encode_all
from keras_finetune.data.pair_template import PairTemplate, read_pair_template
from keras_finetune.data.text_checks import check_texts
from keras_finetune.data.tokenizer_files import read_tokenizer, special_tokens
from keras_finetune.data.tokenizer_training import train_tokenizer
from keras_finetune.data.word_encoder import WordEncoder, has_words

# Fewer are encoded as they are.
_TEXTS_WITH_WORDS_IN_COMMON = 256

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Tokenizer:
    """A tokenizer of Hugging Face's `tokenizers`, with bulk encoding into NumPy arrays.

    It neither pads (the pipeline does) nor remembers a truncation (`max_length` is given with each
    call), so that one tokenizer can serve several uses and threads at once.

    Attributes:
        special_tokens: The special token of each role (``"pad"``, ``"unk"``, ``"cls"``, ``"sep"``,
            ``"mask"``, ``"bos"``, ``"eos"``) that the vocabulary has.
        chat_template: The Jinja template that a chat model's conversations are written with, or
            None.
        pad_id: Id of the padding token, None where there is none. Likewise `unk_id`, `cls_id`,
            `sep_id`, `mask_id`, `bos_id` and `eos_id`.

    Example:
        >>> texts = ["the cat sat", "the dog sat", "the cat ran"]
        >>> tokenizer = Tokenizer.train(texts, vocab_size=60, kind="wordpiece", progress=False)
        >>> ids = tokenizer.encode("The cat")
        >>> ids[0] == tokenizer.cls_id, ids[-1] == tokenizer.sep_id, tokenizer.decode(ids)
        (True, True, 'the cat')
        >>> tokenizer.encode_batch(texts, max_length=4).lengths
        array([4, 4, 4])
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        special: dict[str, str] | None = None,
        chat_template: str | None = None,
    ) -> None:
        # A copy, so that what its owner sets later (truncation, padding) does not reach this one.
        self._tokenizer = _copy(tokenizer)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._truncating: dict[int, tokenizers.Tokenizer] = {}
        self.special_tokens = special or special_tokens(self._tokenizer, {})
        self.chat_template = chat_template
        self.pad_id = self._id_of("pad")
        self.unk_id = self._id_of("unk")
        self.cls_id = self._id_of("cls")
        self.sep_id = self._id_of("sep")
        self.mask_id = self._id_of("mask")
        self.bos_id = self._id_of("bos")
        self.eos_id = self._id_of("eos")

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int = 8_000,
        kind: str = "bpe",
        *,
        lowercase: bool | None = None,
        min_frequency: int = 2,
        special_tokens: Sequence[str] = SPECIAL_TOKENS,
        progress: bool = True,
    ) -> "Tokenizer":
        """Learn a vocabulary from texts.

        Args:
            texts: The texts, streamed; ``"wordpiece"`` goes through them twice and therefore
                holds those of a one-time iterator.
            vocab_size: Size of the vocabulary, special tokens included; fewer where the texts do
                not give as many.
            kind: ``"bpe"``, byte pairs as GPT-2 has them: every text can be encoded, and decoded
                to the very same. ``"wordpiece"``, as BERT has it: words, and pieces of rarer
                words; Chinese characters one by one. ``"char"``: one character a token, line ends
                and other white space included, for Chinese and for small alphabets.
            lowercase: Whether to lowercase. Default: not for ``"bpe"``, else yes.
            min_frequency: How often a token must occur.
            special_tokens: Special tokens; they get the first ids. Where ``[CLS]`` and ``[SEP]``
                are among them, texts are encoded as ``[CLS] text [SEP]``.
            progress: Whether to show a progress bar.

        Raises:
            ValueError: `texts` is empty or a row of it is no text, `kind` is unknown, or
                `vocab_size` is too small for the kind.
        """
        trained = train_tokenizer(
            texts,
            vocab_size,
            kind,
            lowercase=kind != "bpe" if lowercase is None else lowercase,
            min_frequency=min_frequency,
            special_tokens=special_tokens,
            progress=progress,
        )
        return cls(trained)

    @classmethod
    def load(cls, path: str | Path, *, lowercase: bool | None = None) -> "Tokenizer":
        """Load a tokenizer; see `read_tokenizer` for what there may be.

        Args:
            path: A directory in Hugging Face's format, or a ``tokenizer.json``, BERT's
                ``vocab.txt``, or GPT-2's ``vocab.json`` beside its ``merges.txt``; also gzipped.
            lowercase: For ``vocab.txt`` without a ``tokenizer_config.json``: whether the model is
                uncased. Default: whether no word of the vocabulary has a capital letter.
        """
        return cls(*read_tokenizer(path, lowercase))

    def save(self, path: str | Path) -> None:
        """Write the tokenizer in Hugging Face's format.

        Args:
            path: A file that ends in ``.json``; else a directory, which gets ``tokenizer.json``,
                ``tokenizer_config.json`` and ``special_tokens_map.json`` and is made if need be.
        """
        path = Path(path)
        is_file = path.suffix == ".json"
        directory = path.parent if is_file else path
        directory.mkdir(parents=True, exist_ok=True)
        # Beside it first: a full disk, say, must not spoil what is there.
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=directory) as folder:
            new = Path(folder)
            self._tokenizer.save(str(new / "tokenizer.json"))
            if is_file:
                os.replace(new / "tokenizer.json", path)
                return
            self._write_roles(new)
            for file in new.iterdir():
                os.replace(file, directory / file.name)

    def _write_roles(self, directory: Path) -> None:
        roles = {f"{role}_token": token for role, token in self.special_tokens.items()}
        # This class reads tokenizer.json as it is, where a family's own would guess.
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **roles}
        if self.chat_template is not None:
            config["chat_template"] = self.chat_template
        files = {"special_tokens_map.json": roles, "tokenizer_config.json": config}
        for name, content in files.items():
            text = json.dumps(content, ensure_ascii=False, indent=2)
            (directory / name).write_text(text + "\n", "utf-8")

    def encode(
        self, text: str, pair: str | None = None, max_length: int | None = None
    ) -> list[int]:
        """Return the token ids of one text, or of a pair, with the model's special tokens."""
        pairs = None if pair is None else [pair]
        return self.encode_batch([text], pairs, max_length=max_length).token_ids.tolist()

    def encode_batch(
        self,
        texts: Iterable[str],
        pairs: Iterable[str] | None = None,
        *,
        max_length: int | None = None,
        special_tokens: bool = True,
        first_row: int = 0,
        char_spans: bool = False,
    ) -> EncodedBatch:
        """Encode many texts, or pairs of texts, on all cores.

        Args:
            texts: The texts.
            pairs: The second text of each pair.
            max_length: Longer texts are cut at the end to this many tokens, special tokens
                included; of a pair the longer text is cut first.
            special_tokens: Whether to add the model's special tokens, as ``[CLS]`` and ``[SEP]``.
            first_row: Number of the first text in its source, for error messages.
            char_spans: Whether to say which characters each token stands for. What a token of
                words makes of the space before it differs between kinds of tokenizers.

        Raises:
            ValueError: A text is None, NaN or no `str` (the message names the row), there are not
                as many pairs as texts, or `max_length` has no room for the special tokens.
        """
        texts = _listed(texts, "texts")
        check_texts(texts, first_row)
        inputs: list[Any] = texts
        if pairs is not None:
            pairs = _listed(pairs, "pairs")
            if len(pairs) != len(texts):
                raise ValueError(f"There are {len(texts)} texts and {len(pairs)} pairs")
            check_texts(pairs, first_row, "second text")
            inputs = list(zip(texts, pairs, strict=True))
        encoder = self._encoder(max_length, pairs is not None, special_tokens)
        if pairs is None and not char_spans and len(texts) >= _TEXTS_WITH_WORDS_IN_COMMON:
            encoded = self._by_words(texts, max_length, special_tokens)
            if encoded is not None:
                return encoded
        paired = pairs is not None
        return encode_all(encoder, inputs, paired, special_tokens, first_row, char_spans)

    def pair_template(self) -> PairTemplate:
        """Return the special tokens, and the segment ids, that `encode` puts around a pair."""
        return read_pair_template(self._tokenizer)

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of token ids; one that begins within a word is without its ``##``."""
        numbers = [int(number) for number in ids]
        if numbers and min(numbers) < 0:
            raise ValueError(f"Token ids are 0 or more. Received: {min(numbers)}.")
        text = str(self._tokenizer.decode(numbers, skip_special_tokens=skip_special_tokens))
        decoder = self._tokenizer.decoder
        if isinstance(decoder, tokenizers.decoders.WordPiece):
            return text.removeprefix(decoder.prefix)
        return text

    @property
    def vocab_size(self) -> int:
        """The number of tokens, special and added ones included."""
        return int(self._tokenizer.get_vocab_size())

    def token_to_id(self, token: str) -> int | None:
        """Return the id of a token, or None if there is no such token."""
        number: int | None = self._tokenizer.token_to_id(token)
        return number

    def id_to_token(self, number: int) -> str | None:
        """Return the token of an id, or None if there is no such id."""
        token: str | None = self._tokenizer.id_to_token(int(number))
        return token

    @functools.cached_property
    def fingerprint(self) -> str:
        """What identifies the tokenizer: tokenizers that encode differently differ in it."""
        parts = [self._tokenizer.to_str(), sorted(self.special_tokens.items())]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _by_words(
        self, texts: list[str], max_length: int | None, special_tokens: bool
    ) -> EncodedBatch | None:
        words = self._word_encoder
        return None if words is None else words.encode(texts, max_length, special_tokens)

    @functools.cached_property
    def _word_encoder(self) -> WordEncoder | None:
        return WordEncoder(self._tokenizer) if has_words(self._tokenizer) else None

    def __getstate__(self) -> dict[str, Any]:
        # Words and their lock stay in their process.
        return {name: x for name, x in self.__dict__.items() if name != "_word_encoder"}

    def _id_of(self, role: str) -> int | None:
        token = self.special_tokens.get(role)
        return None if token is None else self.token_to_id(token)

    def _encoder(
        self, max_length: int | None, pair: bool, special_tokens: bool
    ) -> tokenizers.Tokenizer:
        if max_length is None:
            return self._tokenizer
        marks = self._tokenizer.num_special_tokens_to_add(pair) if special_tokens else 0
        if max_length <= marks:
            raise ValueError(
                f"max_length={max_length} leaves no room for text beside {marks} special tokens"
            )
        encoder = self._truncating.get(max_length)
        if encoder is None:
            # Truncation is a state of a tokenizer, shared by threads: hence a copy a length.
            encoder = _copy(self._tokenizer)
            encoder.enable_truncation(max_length, strategy="longest_first")
            kept = self._truncating if len(self._truncating) < 4 else {}
            self._truncating = {**kept, max_length: encoder}
        return encoder


def _copy(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(tokenizer.to_str())


def _listed(texts: Any, name: str) -> list[Any]:
    if isinstance(texts, str):
        raise ValueError(f"{name} is one str; pass a list of texts, or use encode()")
    return texts if isinstance(texts, list) else list(texts)
