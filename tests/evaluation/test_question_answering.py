import collections
import re
import string

import numpy as np
import pytest

from keras_finetune.evaluation import answer_scores, squad_scores


@pytest.mark.parametrize(
    ("prediction", "reference", "match", "f1"),
    [
        ("Denver Broncos", "The Denver Broncos!", 1, 1),
        ("broncos", "Denver Broncos", 0, 2 / 3),
        ("re-use", "reuse", 1, 1),  # punctuation inside a word goes, and joins it
        ("U.S.", "us", 1, 1),
        ("theatre", "atre", 0, 0),  # an article is a whole word
        ("a b a b", "b b c", 0, 4 / 5),
        ("x x x", "x", 0, 1 / 2),
        ("Beyoncé", "beyonce", 0, 0),
        ("“quoted”", "quoted", 0, 0),  # only ASCII punctuation goes
        ("\u00a0two\twords\n", "two words", 1, 1),
        ("", "cat", 0, 0),
        ("cat", "", 0, 0),
    ],
)
@pytest.mark.parametrize("version", ["1.1", "2.0"])
def test_one_answer(prediction, reference, match, f1, version):
    matches, overlaps = answer_scores([prediction], [[reference]], version=version)
    assert matches.tolist() == [match]
    assert overlaps.tolist() == pytest.approx([f1])


def test_answers_that_are_only_articles_differ_between_the_versions():
    def scores(prediction, references, version):
        found = squad_scores([prediction], [references], version=version)
        return found.exact_match, found.f1

    assert scores("the", ["The."], "1.1") == (100, 0)
    assert scores("the", ["The."], "2.0") == (100, 100)
    assert scores("the", ["a", "cat"], "1.1") == (100, 0)
    assert scores("the", ["a", "cat"], "2.0") == (0, 0)
    assert scores("", ["a"], "2.0") == (100, 100)


def test_the_best_reference_counts():
    scores = squad_scores(["in the city of Paris"], [["Paris", "city of Paris"]])
    assert scores.exact_match == 0
    assert scores.f1 == pytest.approx(100 * 6 / 7)


def test_with_and_without_an_answer():
    predictions = ["cat", "", "dog", ""]
    references = [["cat"], ["bird"], [], []]
    scores = squad_scores(predictions, references)
    assert (scores.exact_match, scores.f1, scores.total) == (50, 50, 4)
    assert (scores.has_answer.exact_match, scores.has_answer.total) == (50, 2)
    assert (scores.no_answer.f1, scores.no_answer.total) == (50, 2)
    assert scores.as_dict()["no_answer"] == {"exact_match": 50.0, "f1": 50.0, "total": 2}
    assert "without one    │       50.00 │ 50.00 │     2" in str(scores)
    nothing = squad_scores(["", "cat"], [[], []])
    assert nothing.has_answer is None
    assert nothing.no_answer.total == 2


def test_answers_everywhere_have_no_parts():
    scores = squad_scores(["cat"], [["cat"]])
    assert scores.as_dict() == {"exact_match": 100.0, "f1": 100.0, "total": 1}
    assert "without one" not in str(scores)


def test_chinese_by_characters():
    assert squad_scores(["在北京。"], [["北京"]]).f1 == 0
    scores = squad_scores(["在北京。"], [["北京"]], f1_by="characters")
    assert scores.f1 == pytest.approx(80)
    assert squad_scores(["《北京》"], [["北京"]], f1_by="characters").exact_match == 100
    assert squad_scores(["100$"], [["100"]], f1_by="characters").exact_match == 100
    assert squad_scores(["约￥+5"], [["约￥5"]], f1_by="characters").exact_match == 100
    scores = squad_scores(["Keras 三"], [["Keras 3"]], f1_by="characters")
    assert scores.f1 == pytest.approx(50)


def as_published(prediction, reference):
    """The steps that SQuAD's paper and script name, put plainly."""

    def normal(text):
        text = "".join(char for char in text.lower() if char not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())

    said, gold = normal(prediction), normal(reference)
    overlap = collections.Counter(said.split()) & collections.Counter(gold.split())
    same = sum(overlap.values())
    if same == 0:
        return said == gold, 0.0
    precision, recall = same / len(said.split()), same / len(gold.split())
    return said == gold, 2 * precision * recall / (precision + recall)


def test_random_answers_agree_with_the_published_steps():
    rng = np.random.default_rng(0)
    words = ["the", "A", "cat", "cat's", "Zürich,", "3.5", "an", "-", "dog"]
    texts = [" ".join(rng.choice(words, rng.integers(0, 6))) for _ in range(400)]
    matches, f1 = answer_scores(texts[:200], [[text] for text in texts[200:]], version="1.1")
    expected = [as_published(*pair) for pair in zip(texts[:200], texts[200:], strict=True)]
    assert matches.tolist() == [match for match, _ in expected]
    assert f1.tolist() == pytest.approx([score for _, score in expected])
    assert 0 < matches.sum() < 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "as many rows, at least one"),
        ((["a"], []), "1 predictions, 0 references"),
        (([None], [["a"]]), "Prediction 0 is None"),
        ((["a"], ["a"]), "references of row 0 are 'a'; expected a list"),
        ((["a"], [[None]]), "references of row 0"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        squad_scores(*arguments)


def test_refuses_options():
    with pytest.raises(ValueError, match=r'use version="2\.0"'):
        squad_scores([""], [[]], version="1.1")
    with pytest.raises(ValueError, match=r'version must be "1\.1" or "2\.0"'):
        squad_scores([""], [[""]], version="2")
    with pytest.raises(ValueError, match="f1_by must be"):
        squad_scores([""], [[""]], f1_by="letters")
