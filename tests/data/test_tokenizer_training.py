import pytest

from keras_finetune.data.tokenizer import Tokenizer

ENGLISH = ["The quick brown fox jumps over the lazy dog.", "The dog sleeps; the fox runs."] * 20
CHINESE = ["今天天气很好", "北京天气不好", "Hello 北京"] * 5


def test_bpe_gives_back_the_very_text() -> None:
    tokenizer = Tokenizer.train(iter(ENGLISH), vocab_size=290, progress=False)
    assert tokenizer.vocab_size == 290
    for text in ["The quick fox", "  odd\tspacing\n", "是的, naïve 🎉"]:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode_batch(["fox"], special_tokens=False).lengths < 3


def test_wordpiece_lowercases_and_knows_words() -> None:
    tokenizer = Tokenizer.train(ENGLISH, vocab_size=200, kind="wordpiece", progress=False)
    ids = tokenizer.encode("THE Fox")
    assert [tokenizer.id_to_token(number) for number in ids] == ["[CLS]", "the", "fox", "[SEP]"]
    cased = Tokenizer.train(
        ENGLISH, vocab_size=200, kind="wordpiece", lowercase=False, progress=False
    )
    assert cased.encode("THE")[1] != cased.encode("the")[1]


def test_char_is_a_character_a_token() -> None:
    tokenizer = Tokenizer.train(CHINESE, kind="char", progress=False)
    ids = tokenizer.encode("北京 天气X")
    assert len(ids) == 6 + 2
    assert tokenizer.decode(ids[1:-1], skip_special_tokens=False) == "北京 天气[UNK]"
    assert tokenizer.decode(ids) == "北京 天气"


def test_char_keeps_line_ends_and_case() -> None:
    text = "First Citizen:\nSpeak,\tspeak."
    tokenizer = Tokenizer.train(
        [text], kind="char", lowercase=False, min_frequency=1, progress=False
    )
    ids = tokenizer.encode_batch([text], special_tokens=False)[0]
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "char"])
def test_special_tokens_come_first(kind: str) -> None:
    tokenizer = Tokenizer.train(ENGLISH, vocab_size=300, kind=kind, progress=False)
    ids = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id)
    assert (*ids, tokenizer.mask_id) == (0, 1, 2, 3, 4)
    assert (tokenizer.bos_id, tokenizer.eos_id) == (None, None)
    encoded = tokenizer.encode("the fox", "a dog")
    assert encoded[0] == 2
    assert encoded.count(3) == 2


def test_own_special_tokens() -> None:
    marks = ["<pad>", "<unk>", "<s>", "</s>"]
    tokenizer = Tokenizer.train(ENGLISH, vocab_size=300, special_tokens=marks, progress=False)
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 2, 3)
    assert tokenizer.cls_id is None
    assert (
        tokenizer.encode("the") == tokenizer.encode_batch(["the"], special_tokens=False)[0].tolist()
    )


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "char"])
def test_training_is_deterministic(kind: str) -> None:
    options = {"vocab_size": 290, "kind": kind, "progress": False}
    texts = [f"{text} {n * n:x} {n:o}é" for n, text in enumerate(ENGLISH + CHINESE)]
    prints = {Tokenizer.train(texts, **options).fingerprint for _ in range(4)}
    assert len(prints) == 1


def test_pieces_of_words_are_no_special_tokens() -> None:
    tokenizer = Tokenizer.train(ENGLISH, vocab_size=60, kind="wordpiece", progress=False)
    ids = tokenizer.encode("dogs")
    assert "##s" in [tokenizer.id_to_token(number) for number in ids]
    assert tokenizer.decode(ids) == "dogs"
    assert tokenizer.id_to_token(tokenizer.encode("##s")[1]) == "[UNK]"
    one_time = Tokenizer.train(iter(ENGLISH), vocab_size=60, kind="wordpiece", progress=False)
    assert one_time.fingerprint == tokenizer.fingerprint


def test_progress_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    Tokenizer.train(ENGLISH, vocab_size=300)
    assert "Training the tokenizer (40)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "texts is empty"),
        ([], {"vocab_size": 100}, "texts is empty"),
        ("a text", {}, r"one str; pass an iterable of texts"),
        (["a", None], {}, r"Row 1: the text is None"),
        (["a", "b\ud800"], {}, r"Row 1: the text has half a character .* Repair it"),
        (["a", "b\ud800"], {"kind": "wordpiece"}, r"Row 1: the text has half a character"),
        (["a", "b\ud800"], {"kind": "char"}, r"Row 1: the text has half a character"),
        (ENGLISH, {"kind": "wordpeice"}, r'Did you mean "wordpiece"'),
        (ENGLISH, {"vocab_size": 200}, "vocab_size=200 is too small: bpe needs 261"),
        (ENGLISH, {"kind": "char", "special_tokens": ["[PAD]"]}, r'needs "\[UNK\]"'),
    ],
)
def test_what_cannot_be(texts: object, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tokenizer.train(texts, progress=False, **options)  # type: ignore[arg-type]
