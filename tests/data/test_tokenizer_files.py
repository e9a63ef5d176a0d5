import gzip
import json
import os
from pathlib import Path

import pytest

from keras_finetune.data.tokenizer import Tokenizer

UNCASED = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\nworld\n##s\n\u2028\n界\n"
DATA = os.environ.get("KERAS_FINETUNE_TEST_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="KERAS_FINETUNE_TEST_DATA is not set")


def bert(folder: Path, text: str = UNCASED, **config: object) -> Path:
    (folder / "vocab.txt").write_text(text, "utf-8", newline="\n")
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def gpt2(folder: Path, packed: bool = False) -> Path:
    vocab = {
        "h": 0,
        "e": 1,
        "l": 2,
        "o": 3,
        "Ġ": 4,
        "he": 5,
        "ll": 6,
        "hell": 7,
        "<|endoftext|>": 8,
    }
    merges = "#version: 0.2\nh e\nl l\nhe ll\n"
    for name, text in (("vocab.json", json.dumps(vocab)), ("merges.txt", merges)):
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / name).write_text(text, "utf-8")
    return folder


def test_bert_vocabulary(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(bert(tmp_path))
    assert tokenizer.encode("Hello worlds") == [2, 5, 6, 7, 3]
    assert tokenizer.encode("hello世界") == [2, 5, 1, 9, 3]  # ids are line numbers, U+2028 or not
    assert tokenizer.vocab_size == 10
    assert Tokenizer.load(tmp_path / "vocab.txt").fingerprint == tokenizer.fingerprint


def test_bert_case(tmp_path: Path) -> None:
    assert Tokenizer.load(bert(tmp_path, do_lower_case=False)).encode("Hello") == [2, 1, 3]
    (tmp_path / "tokenizer_config.json").unlink()
    cased = bert(tmp_path, UNCASED + "Hello\n")
    assert Tokenizer.load(cased).encode("Hello") == [2, 10, 3]
    assert Tokenizer.load(cased, lowercase=True).encode("Hello") == [2, 5, 3]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["", "vocab.json", "merges.txt"])
def test_gpt2_vocabulary(tmp_path: Path, packed: bool, name: str) -> None:
    path = gpt2(tmp_path, packed) / (name + ".gz" if name and packed else name)
    tokenizer = Tokenizer.load(path)
    assert tokenizer.encode("hello hell") == [7, 3, 4, 7]
    assert (tokenizer.eos_id, tokenizer.bos_id, tokenizer.pad_id) == (8, 8, None)


def test_tokenizer_json_comes_without_truncation_and_padding(tmp_path: Path) -> None:
    import tokenizers

    Tokenizer.load(bert(tmp_path)).save(tmp_path / "tokenizer.json")
    raw = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    raw.enable_truncation(3)
    raw.enable_padding(length=9)
    raw.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer.load(tmp_path).encode("hello world world") == [2, 5, 6, 6, 3]


def test_roles_are_saved_and_read(tmp_path: Path) -> None:
    marks = {"eos_token": "[SEP]", "bos_token": {"content": "[CLS]"}, "pad_token": None}
    tokenizer = Tokenizer.load(bert(tmp_path, **marks))
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (2, 3, 0)
    tokenizer.save(tmp_path / "out")
    again = Tokenizer.load(tmp_path / "out")
    assert again.special_tokens == tokenizer.special_tokens
    assert again.fingerprint == tokenizer.fingerprint
    assert again.encode("hello") == tokenizer.encode("hello")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no tokenizer file"):
        Tokenizer.load(tmp_path / "none")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"has no tokenizer\.json.*In it: config\.json"):
        Tokenizer.load(tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"one of a pair; there is no .*merges\.txt"):
        Tokenizer.load(tmp_path / "vocab.json")


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt", "vocab.txt.gz"])
def test_broken_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"a": ')
    with pytest.raises(ValueError, match="is not a tokenizer file"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("text", ['{"a": ', "7"])
def test_a_broken_config_is_named(tmp_path: Path, text: str) -> None:
    folder = bert(tmp_path, UNCASED)
    (tmp_path / "tokenizer_config.json").write_text(text)
    with pytest.raises(ValueError, match=r"tokenizer_config\.json.* is no JSON object"):
        Tokenizer.load(folder)


def test_of_a_token_in_two_lines_the_last_counts(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(bert(tmp_path, UNCASED + "hello\n"))
    assert tokenizer.encode("hello")[1] == UNCASED.count("\n")


@needs_data
@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        ("bert-base-uncased", "hello world", [101, 7592, 2088, 102]),
        ("bert-base-uncased", "Héllo, unaffable!", [101, 7592, 1010, 14477, 20961, 3468, 999, 102]),
        ("bert-base-chinese", "今天", [101, 791, 1921, 102]),
        ("gpt2", "Hello world", [15496, 995]),
        ("gpt2", " Hello  world\n", [18435, 220, 995, 198]),
    ],
)
def test_the_original_vocabularies(name: str, text: str, ids: list[int]) -> None:
    assert DATA
    tokenizer = Tokenizer.load(Path(DATA) / "vocab" / name)
    assert tokenizer.encode(text) == ids
    assert tokenizer.vocab_size == {"bert-base-uncased": 30522, "gpt2": 50257}.get(name, 21128)


def test_saving_that_is_broken_off_leaves_the_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Tokenizer.train(["an old text"], vocab_size=300)
    old.save(tmp_path)
    old.save(tmp_path / "alone.json")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    new = Tokenizer.train(["quite another text"], vocab_size=310)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        new.save(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        new.save(tmp_path / "alone.json")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
