import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from keras_finetune.data import Tokenizer, read
from keras_finetune.data.alignment import covering_tokens, written_spans
from keras_finetune.data.docstrings import package_docstrings, package_folder
from keras_finetune.data.question_answers import answer_spans

DATA = os.environ.get("KERAS_FINETUNE_TEST_DATA")
ODD = [
    "Cafe\u0301 au lait, nai\u0308ve\u0323\u0301 – x",
    "  two  spaces,\ttabs\n\nand lines ",
    "北京是中国的首都。人口 2189 万，",
    "emoji 👩‍👩‍👧 and 🇨🇭!",
    "zero\u200bwidth, nul\x00 and \ufeff marks",
    "",
    "   ",
]


@pytest.fixture(scope="module")
def texts():
    docstrings = package_docstrings("numpy", package_folder("numpy") / "lib")
    return [*ODD, *(found.text[:1_500] for found in itertools.islice(docstrings, 60))]


@pytest.fixture(scope="module", params=["bpe", "wordpiece", "char", "metaspace"])
def tokenizer(request, texts):
    if request.param == "metaspace":  # as Llama's and T5's: the space is part of the word
        vocab = {char: n for n, char in enumerate(sorted({"▁", *"".join(texts)}))}
        made = tokenizers.Tokenizer(models.BPE(vocab, [("▁", "t")] if "▁t" in vocab else []))
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        made.decoder = decoders.Metaspace()
        return Tokenizer(made)
    kind = request.param
    return Tokenizer.train(texts, 600, kind, min_frequency=1, progress=False)


def encoded(tokenizer, texts):
    batch = tokenizer.encode_batch(texts, special_tokens=False, char_spans=True)
    for row, text in enumerate(texts):
        spans = batch.char_spans[batch.offsets[row] : batch.offsets[row + 1]]
        yield text, written_spans(text, spans)


def test_any_run_of_tokens_survives_the_way_to_characters_and_back(tokenizer, texts):
    rng = np.random.default_rng(0)
    runs = 0
    for _, spans in encoded(tokenizer, texts):
        if not len(spans):
            continue
        for _ in range(30):
            first, last = sorted(rng.integers(0, len(spans), 2))
            start, end = spans[first, 0], spans[last, 1]
            if spans[first, 1] == start or spans[last, 0] == end:
                continue  # a token that is nothing but white space
            low, high = covering_tokens(spans, start, end)
            assert low <= first <= last <= high
            # Tokens beside it are only others of the same characters: bytes of one character.
            assert (spans[low, 0], spans[high, 1]) == (start, end)
            runs += 1
    assert runs > 800


def test_words_survive_the_way_to_tokens_and_back(tokenizer, texts):
    words = 0
    for text, spans in encoded(tokenizer, texts):
        written = spans[spans[:, 0] < spans[:, 1]]
        starts, ends = set(written[:, 0].tolist()), set(written[:, 1].tolist())
        at = 0
        for word in text.split():
            start = text.index(word, at)
            at = end = start + len(word)
            if start in starts and end in ends:
                first, last = covering_tokens(spans, start, end)
                assert text[spans[first, 0] : spans[last, 1]] == word
                words += 1
    assert words > 5_000


def test_every_character_has_a_token_but_for_blanks(tokenizer, texts):
    for text, spans in encoded(tokenizer, texts[len(ODD) :]):
        held = np.zeros(len(text), bool)
        for start, end in spans:
            held[start:end] = True
        missing = [char for char, there in zip(text, held, strict=True) if not there]
        assert not "".join(missing).strip()


def test_removed_accents_stay_with_their_letter():
    tokenizer = Tokenizer.train(["cafe x"] * 2, 100, "wordpiece", progress=False)
    text = "Cafe\u0301 x\u0323\u0301 \u0301"
    batch = tokenizer.encode_batch([text], special_tokens=False, char_spans=True)
    spans = written_spans(text, batch.char_spans)
    read = [text[start:end] for start, end in spans]
    assert "".join(read) == "Cafe\u0301x\u0323\u0301"
    assert covering_tokens(spans, len(text) - 1, len(text)) is None


@pytest.mark.skipif(not DATA, reason="KERAS_FINETUNE_TEST_DATA is not set")
def test_squads_answers_survive():
    folder = Path(DATA or "")
    tokenizer = Tokenizer.load(folder / "vocab" / "bert-base-uncased" / "vocab.txt")
    rows = list(read(folder / "extractive_qa" / "squad_v1.1_dev", "test").head(400))
    exact = total = 0
    for row, (text, spans) in zip(
        rows, encoded(tokenizer, [row["context"] for row in rows]), strict=True
    ):
        for start, end in answer_spans(row["answers"], text, "Row"):
            first, last = covering_tokens(spans, start, end)
            assert spans[first, 0] <= start < end <= spans[last, 1]
            exact += (spans[first, 0], spans[last, 1]) == (start, end)
            total += 1
    assert exact / total > 0.99
    assert total > 1_000
