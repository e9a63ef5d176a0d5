import concurrent.futures
import pickle

import numpy as np
import pytest
import tokenizers

from keras_finetune.data.tokenizer import Tokenizer

TEXTS = [
    f"the {a} {b} sat on a mat {n}" for n, (a, b) in enumerate([("big", "cat"), ("red", "dog")] * 9)
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, vocab_size=120, kind="wordpiece", progress=False)


def raw(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(tokenizer._tokenizer.to_str())


@pytest.mark.parametrize("special_tokens", [True, False])
@pytest.mark.parametrize("max_length", [None, 5])
@pytest.mark.parametrize("paired", [False, True])
def test_same_ids_as_the_library(tokenizer, special_tokens, max_length, paired) -> None:
    reference = raw(tokenizer)
    if max_length:
        reference.enable_truncation(max_length, strategy="longest_first")
    texts = [*TEXTS, "", "cat"] * 210  # more than one internal batch
    pairs = texts[::-1] if paired else None
    inputs = list(zip(texts, pairs, strict=True)) if pairs else texts
    expected = reference.encode_batch(inputs, add_special_tokens=special_tokens)
    batch = tokenizer.encode_batch(
        texts, pairs, max_length=max_length, special_tokens=special_tokens
    )
    assert len(batch) == len(texts)
    assert [row.tolist() for row in batch] == [encoding.ids for encoding in expected]
    assert batch.token_ids.dtype == np.int32
    assert batch.offsets.dtype == np.int64
    assert batch.lengths.sum() == len(batch.token_ids)
    if paired:
        types = [number for encoding in expected for number in encoding.type_ids]
        assert batch.segment_ids.tolist() == types
    else:
        assert batch.segment_ids is None


def test_longest_of_a_pair_is_cut_first(tokenizer) -> None:
    whole = tokenizer.encode("cat", "the big dog sat on a mat")
    cut = tokenizer.encode("cat", "the big dog sat on a mat", max_length=7)
    assert len(cut) == 7
    assert cut[:6] == whole[:6]
    assert cut[-1] == tokenizer.sep_id


def test_batches_of_arrays_generators_and_nothing(tokenizer) -> None:
    expected = tokenizer.encode_batch(TEXTS).token_ids.tolist()
    assert tokenizer.encode_batch(np.array(TEXTS, object)).token_ids.tolist() == expected
    assert tokenizer.encode_batch(np.array(TEXTS)).token_ids.tolist() == expected
    assert tokenizer.encode_batch(text for text in TEXTS).token_ids.tolist() == expected
    empty = tokenizer.encode_batch([])
    assert (len(empty), empty.token_ids.shape, empty.offsets.tolist()) == (0, (0,), [0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.encode_batch(["a", None]), r"Row 1: the text is None \(missing\)"),
        (lambda t: t.encode_batch(["a", 2.5], first_row=100), r"Row 101: the text is 2\.5"),
        (lambda t: t.encode_batch(["a"], [float("nan")]), "Row 0: the second text is nan"),
        (lambda t: t.encode_batch(["a", "b"], ["c"]), "2 texts and 1 pairs"),
        (lambda t: t.encode_batch("abc"), "texts is one str"),
        (lambda t: t.encode_batch(["a", "b\ud800"]), "Row 1: the text has half a character"),
        (lambda t: t.encode("a", max_length=2), "max_length=2 leaves no room"),
        (lambda t: t.encode("a", "b", max_length=3), "beside 3 special tokens"),
        (lambda t: t.encode("a", max_length=0), "no room"),
    ],
)
def test_bad_text_is_refused(tokenizer, call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(tokenizer)


def test_max_length_does_not_stay(tokenizer) -> None:
    whole = tokenizer.encode(TEXTS[0])
    before = tokenizer.fingerprint
    for max_length in range(3, 12):
        assert len(tokenizer.encode(TEXTS[0], max_length=max_length)) == min(max_length, len(whole))
    assert tokenizer.encode(TEXTS[0]) == whole
    assert Tokenizer(tokenizer._tokenizer).fingerprint == before


def test_threads_with_different_lengths(tokenizer) -> None:
    def lengths(max_length: int) -> set[int]:
        return set(tokenizer.encode_batch(TEXTS * 20, max_length=max_length).lengths.tolist())

    wanted = [3, 4, 5, 6, 7, 8] * 6
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lengths, wanted)) == [{length} for length in wanted]


def test_wrapping_leaves_the_given_tokenizer_alone(tokenizer) -> None:
    given = raw(tokenizer)
    given.enable_truncation(4)
    given.enable_padding(length=50)
    wrapped = Tokenizer(given)
    assert wrapped.encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])
    assert given.truncation is not None
    assert given.padding is not None


def test_decode_leaves_special_tokens_out(tokenizer) -> None:
    ids = np.array(tokenizer.encode("the cat"))
    assert tokenizer.decode(ids) == "the cat"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "[CLS] the cat [SEP]"
    with pytest.raises(ValueError, match="Token ids are 0 or more"):
        tokenizer.decode([1, -1])


def test_tokens_and_ids(tokenizer) -> None:
    number = tokenizer.token_to_id("cat")
    assert tokenizer.id_to_token(number) == "cat"
    assert tokenizer.token_to_id("zebra") is None
    assert tokenizer.id_to_token(10_000) is None


def test_pickling(tokenizer) -> None:
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])
    assert again.fingerprint == tokenizer.fingerprint


def test_fingerprints_differ(tokenizer) -> None:
    other = Tokenizer.train(TEXTS, vocab_size=50, kind="wordpiece", progress=False)
    assert other.fingerprint != tokenizer.fingerprint


def test_a_text_that_begins_within_a_word_has_no_marks_of_word_pieces():
    tokenizer = Tokenizer.train(["sun sunny ##"], 60, "wordpiece", min_frequency=1, progress=False)
    pieces = [tokenizer.sep_id, tokenizer.token_to_id("##n"), tokenizer.token_to_id("##y")]
    assert tokenizer.decode(pieces) == "ny"
    assert tokenizer.decode(tokenizer.encode("## sun")) == "# # sun"
