import dataclasses
import sys

import pytest

from keras_finetune.evaluation import rouge_scores, translation_scores

rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")
sacrebleu = pytest.importorskip("sacrebleu")


def test_rouge_by_hand():
    # 3 of 4 words and of 5 words in common, in order; pairs: "the cat" of 3 and of 4.
    scores = rouge_scores(["the cat sat there"], ["the cat now sat down"])
    assert scores.rouge1 == pytest.approx(100 * 2 * 0.75 * 0.6 / 1.35)
    assert scores.rouge2 == pytest.approx(100 * 2 * (1 / 3) * (1 / 4) / (1 / 3 + 1 / 4))
    assert scores.rougeL == scores.rouge1


def test_rouge_is_the_mean_over_rows_and_the_best_of_several_references():
    texts = ["a red house", "no such thing"]
    one = rouge_scores(texts, ["a red house", "other words here"])
    assert one.rouge1 == one.rougeL == pytest.approx(50)
    several = rouge_scores(texts, [["a blue car", "a red house"], ["other words", "no such thing"]])
    assert several.rouge2 == pytest.approx(100)


def test_rouge_of_chinese_counts_characters():
    assert rouge_scores(["输入整数"], ["输入整数"]).rouge2 == pytest.approx(100)
    scores = rouge_scores(["输入 整数 Django 5"], ["输入一个整数 django 5"])
    assert scores.rouge1 == pytest.approx(100 * 2 * 6 / (6 + 8))
    assert "characters" in scores.signature


@pytest.mark.parametrize("text", ["Привет, мир!", "안녕 세계", "مرحبا بالعالم", "हिन्दी भाषा"])
def test_rouge_of_other_scripts_counts_words(text):
    scores = rouge_scores([text], [text.lower()])
    assert scores.rouge1 == scores.rouge2 == pytest.approx(100)
    assert "tok:unicode-words" in scores.signature
    assert rouge_scores([text], [text.split()[0]]).rouge1 == pytest.approx(100 * 2 / 3)


def test_rouge_tells_letters_with_accents_from_those_without():
    assert rouge_scores(["été à la mer"], ["ete a la mer"]).rouge1 == pytest.approx(50)
    assert rouge_scores(["cafe\u0301"], ["Café"]).rouge1 == pytest.approx(100)
    # One such word changes nothing in English texts: the others are split and stemmed as before.
    texts, references = ["It's a_red house's doors…", "é"], ["it was: the red DOOR 2", "é"]
    mixed, english = rouge_scores(texts, references), rouge_scores(texts[:1], references[:1])
    assert mixed.rouge1 == pytest.approx((english.rouge1 + 100) / 2)
    assert "tok:words|stemmer:porter" in english.signature


def test_translation_scores_are_sacrebleus_own():
    texts = ["输入一个整数。", "该值不是合法的地址。"]
    references = ["输入整数。", "该值不是合法的IPv6地址。"]
    scores = translation_scores(texts, references)
    assert scores.bleu == sacrebleu.corpus_bleu(texts, [references], tokenize="zh").score
    assert scores.chrf == sacrebleu.corpus_chrf(texts, [references]).score
    assert "tok:zh" in scores.signature
    assert sacrebleu.__version__ in scores.signature
    assert translation_scores(references, references).bleu == pytest.approx(100)


def test_several_references_and_another_language():
    scores = translation_scores(
        ["the cat sat on the mat"],
        [["a cat was there then", "the cat sat on the mat"]],
        target_language="en_GB",
    )
    assert scores.bleu == pytest.approx(100)
    assert "tok:13a" in scores.signature
    assert "nrefs:2" in scores.signature


@pytest.mark.parametrize(
    "language", ["chinese", "Chinese", "cn", "cmn", "zho_Hans", "zh-CN", "中文", "target", "en"]
)
def test_chinese_is_split_into_characters_whatever_its_column_is_called(language):
    texts, references = ["输入一个整数。django"], ["输入整数。django"]
    scores = translation_scores(texts, references, target_language=language)
    assert scores.bleu == translation_scores(texts, references, target_language="zh").bleu
    assert "tok:zh" in scores.signature


@pytest.mark.parametrize(
    ("language", "text", "tokenizer"),
    [
        ("jpn", "整数を入力してください。", "char"),
        ("target", "整数を入力してください。", "char"),
        ("Korean", "정수를 입력하세요.", "char"),
        ("target", "정수를 입력하세요.", "char"),
        ("target", "是。", "zh"),
        ("target", "ป้อนจำนวนเต็ม", "char"),
        ("target", "Enter the word 整数 here", "13a"),
        ("target", "Введите целое число", "13a"),
        ("zh", "only names: Django", "zh"),
    ],
)
def test_a_tokenizer_by_the_language_or_else_by_the_script(language, text, tokenizer):
    scores = translation_scores([text], [text], target_language=language)
    assert f"tok:{tokenizer}|" in scores.signature


def test_scores_print_their_signature_and_are_frozen():
    scores = translation_scores(["一"], ["一"], target_language="zh")
    assert scores.signature in str(scores)
    assert str(scores).startswith("BLEU ")
    rouge = rouge_scores(["one"], ["one"])
    assert str(rouge).startswith("ROUGE-1 100.00")
    with pytest.raises(dataclasses.FrozenInstanceError):
        rouge.rouge1 = 100.0


@pytest.mark.parametrize("score", [rouge_scores, translation_scores])
@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([], [], "at least one"),
        (["a"], ["a", "b"], "1 predictions, 2 references"),
        ("a", "a", "one string"),
        (["a", "b"], ["a", " "], "Row 1: the reference is empty"),
        (["a", "b"], ["a", []], "Row 1: the reference is empty"),
        (["a"], [None], r"Row 0: the reference is None \(missing\)\. Drop the row, or fill it in"),
        (["a"], [["b", None]], r"Row 0: the reference is \['b', None\].*Leave out"),
        (["a"], [float("nan")], r"Row 0: the reference is nan \(missing\)"),
        (["a"], [3], "Row 0: the reference is 3.*a text, or a list of texts"),
        (["a", None], ["a", "b"], "Row 1: the prediction is None"),
    ],
)
def test_what_cannot_be_compared(score, predictions, references, message):
    with pytest.raises(ValueError, match=message):
        score(predictions, references)


def test_uneven_references():
    with pytest.raises(ValueError, match="from 1 to 2"):
        translation_scores(["a", "b"], [["a"], ["b", "c"]])


@pytest.mark.parametrize(
    ("score", "module"),
    [(rouge_scores, "rouge_score.rouge_scorer"), (translation_scores, "sacrebleu")],
)
def test_without_the_packages(score, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"keras_finetune\[metrics\]"):
        score(["a"], ["a"])
