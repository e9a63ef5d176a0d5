"""Scores of written texts against references: ROUGE, BLEU, chrF."""

import importlib
import importlib.metadata
import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

# Chinese and Japanese characters, each a token of its own; else runs of letters and digits.
_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_IS_CJK = re.compile(f"[{_CJK}]")

# sacrebleu's tokenizers, by the first word of a language's code or name.
_TOKENIZERS = {
    **dict.fromkeys(("zh", "zho", "chi", "cmn", "cn", "chinese", "mandarin", "中文"), "zh"),
    **dict.fromkeys(("ja", "jpn", "jp", "japanese", "日本語"), "char"),
    **dict.fromkeys(("ko", "kor", "kr", "korean", "한국어"), "char"),
}
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
# Thai, Lao, Burmese, Khmer, kana and Hangul.
_BY_CHARACTER = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\uac00-\ud7af]")
_WORD = re.compile(r"[^\W_]+")

References = Sequence[str] | Sequence[Sequence[str]]


@dataclass(frozen=True)
class RougeScores:
    """How much of the references' wording summaries have, F-measures in per cent.

    Attributes:
        rouge1: Single words in common.
        rouge2: Pairs of neighbouring words in common.
        rougeL: The longest sequence of words in common.
        rows: Number of summaries.
        signature: What the numbers were computed with; give it where you report them.
    """

    rouge1: float
    rouge2: float
    rougeL: float  # noqa: N815  its name everywhere
    rows: int
    signature: str

    def __str__(self) -> str:
        return (
            f"ROUGE-1 {self.rouge1:.2f}  ROUGE-2 {self.rouge2:.2f}  ROUGE-L {self.rougeL:.2f}  "
            f"({self.rows:,} rows; {self.signature})"
        )


@dataclass(frozen=True)
class TranslationScores:
    """How near translations are to the references, from 0 to 100.

    Attributes:
        bleu: BLEU of the corpus.
        chrf: chrF2 of the corpus.
        rows: Number of translations.
        signature: sacrebleu's signatures of both; give them where you report the numbers.
    """

    bleu: float
    chrf: float
    rows: int
    signature: str

    def __str__(self) -> str:
        return f"BLEU {self.bleu:.2f}  chrF {self.chrf:.2f}  ({self.rows:,} rows; {self.signature})"


def rouge_scores(predictions: Sequence[str], references: References) -> RougeScores:
    """Compare summaries with references by ROUGE (Lin, 2004), through the package `rouge-score`.

    Words are lowercased and stemmed (Porter). The package itself drops all that is not ASCII. Where
    a text has other letters, words are runs of letters and digits of any script, of which those in
    ASCII are stemmed. Where a reference has Chinese or Japanese characters, each character counts
    as a word, and nothing is stemmed. The signature says which it was.

    Args:
        predictions: The summaries.
        references: A reference for each, or a list of them, of which the best one counts.

    Returns:
        Means of the F-measures over the rows.

    Raises:
        ValueError: There is nothing to compare, something is no text, or there are not as many
            references as predictions.
        ImportError: `rouge-score` is not installed.

    Example:
        >>> scores = rouge_scores(["sum of the array"], [["sum of an array", "its total"]])
        >>> round(scores.rouge1), round(scores.rouge2), round(scores.rougeL)
        (75, 33, 75)
    """
    several = _listed(predictions, references)
    by_character = any(_IS_CJK.search(text) for row in several for text in row)
    texts = itertools.chain(predictions, *several)
    beyond_ascii = any(map(_letters_beyond_ascii, texts))
    scoring = _optional("rouge_score.rouge_scorer")
    kinds = ["rouge1", "rouge2", "rougeL"]
    if by_character:
        way, scorer = "tok:characters", scoring.RougeScorer(kinds, tokenizer=_Characters())
    elif beyond_ascii:
        way, scorer = "tok:unicode-words", scoring.RougeScorer(kinds, tokenizer=_Words())
    else:
        way, scorer = "tok:words", scoring.RougeScorer(kinds, use_stemmer=True)
    totals = dict.fromkeys(kinds, 0.0)
    for text, row in zip(predictions, several, strict=True):
        found = scorer.score_multi(row, text)
        for kind in kinds:
            totals[kind] += 100 * found[kind].fmeasure / len(several)
    version = importlib.metadata.version("rouge-score")
    way += "" if by_character else "|stemmer:porter"
    return RougeScores(
        rouge1=totals["rouge1"],
        rouge2=totals["rouge2"],
        rougeL=totals["rougeL"],
        rows=len(several),
        signature=f"F1|{way}|rouge-score:{version}",
    )


def translation_scores(
    predictions: Sequence[str], references: References, *, target_language: str = "zh"
) -> TranslationScores:
    """Compare translations with references by BLEU and chrF, through the package `sacrebleu`.

    Sources: [BLEU](https://aclanthology.org/P02-1040); [chrF](https://aclanthology.org/W15-3049);
    [sacreBLEU](https://aclanthology.org/W18-6319), which says why the signature matters.

    Args:
        predictions: The translations, as plain text.
        references: A reference for each, or equally long lists of them.
        target_language: Code or name. Chinese (`"zh"`) is split into characters, Japanese (`"ja"`)
            and Korean (`"ko"`) too. Any other is split into words (`13a`), unless most of the
            references is in a script that these three, Thai, Lao, Burmese or Khmer use.

    Returns:
        Both scores of the whole corpus.

    Raises:
        ValueError: There is nothing to compare, something is no text, or there are not as many
            references as predictions.
        ImportError: `sacrebleu` is not installed.

    Example:
        >>> scores = translation_scores(["输入整数。"], ["输入一个整数。"])
        >>> 0 < scores.bleu < 100, "tok:zh" in scores.signature
        (True, True)
    """
    several = _listed(predictions, references)
    if len({len(row) for row in several}) > 1:
        raise ValueError(
            "translation_scores needs as many references for each row. Received: from "
            f"{min(map(len, several))} to {max(map(len, several))}. Keep one of each row."
        )
    sacrebleu = _optional("sacrebleu")
    language = re.split(r"[-_\s]", target_language.strip().lower())[0]
    tokenize = _TOKENIZERS.get(language) or _tokenizer_by_script(several)
    metrics = sacrebleu.metrics.BLEU(tokenize=tokenize), sacrebleu.metrics.CHRF()
    streams = [list(stream) for stream in zip(*several, strict=True)]
    bleu, chrf = (metric.corpus_score(list(predictions), streams).score for metric in metrics)
    signature = " + ".join(
        f"{name}|{metric.get_signature()}"
        for name, metric in zip(("BLEU", "chrF"), metrics, strict=True)
    )
    return TranslationScores(bleu, chrf, len(several), signature)


def _tokenizer_by_script(references: list[list[str]]) -> str:
    text = "\n".join(itertools.chain(*references))
    han, others = len(_HAN.findall(text)), len(_BY_CHARACTER.findall(text))
    words = len(_WORD.findall(_BY_CHARACTER.sub(" ", _HAN.sub(" ", text))))
    if han + others <= words:
        return "13a"
    # Japanese has far more kana beside its Han, Korean more Hangul; Chinese may quote a little.
    return "zh" if han > 10 * others else "char"


def listed_references(references: References, what: str = "reference") -> list[list[str]]:
    """Make a list of every row's references.

    Args:
        references: A text a row, or a list of them.
        what: What they are, for errors.

    Raises:
        ValueError: A row has no text, or something that is none; names the row.

    Example:
        >>> listed_references(["one", ["two", "three"]])
        [['one'], ['two', 'three']]
    """
    several = []
    for number, row in enumerate(references):
        if row is None or (isinstance(row, float) and row != row):
            raise ValueError(
                f"Row {number}: the {what} is {row} (missing). Drop the row, or fill it in."
            )
        texts = [row] if isinstance(row, str) or not isinstance(row, Iterable) else list(row)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(
                f"Row {number}: the {what} is {row!r:.60}; expected a text, or a list of texts. "
                "Leave out what is missing, and drop a row that has none."
            )
        if not any(text.strip() for text in texts):
            raise ValueError(
                f"Row {number}: the {what} is empty, so that nothing can be compared with it. "
                "Drop the row."
            )
        several.append(texts)
    return several


class _Characters:
    """A tokenizer as `rouge-score` asks for."""

    def tokenize(self, text: str) -> list[str]:
        return _TOKEN.findall(text.lower())


class _Words:
    """The same of `rouge-score`, but for words with letters beyond ASCII, which are kept whole."""

    def __init__(self) -> None:
        self._ascii = _optional("rouge_score.tokenizers").DefaultTokenizer(use_stemmer=True)

    def tokenize(self, text: str) -> list[str]:
        found: list[str] = []
        text = unicodedata.normalize("NFC", text).lower()
        for word in "".join(c if _in_word(c) else " " for c in text).split():
            found += self._ascii.tokenize(word) if word.isascii() else [word]
        return found


def _in_word(character: str) -> bool:
    # Marks: the vowel signs of Hindi and Thai, the points of Arabic and Hebrew.
    return character.isalnum() or unicodedata.category(character).startswith("M")


def _letters_beyond_ascii(text: str) -> bool:
    return not text.isascii() and any(c.isalpha() and not c.isascii() for c in text)


def _listed(predictions: Sequence[str], references: References) -> list[list[str]]:
    """Check both sides, and make a list of every row's references."""
    if isinstance(predictions, str) or isinstance(references, str):
        raise ValueError("Received one string: give lists of texts, one of each for every row.")
    if len(predictions) != len(references) or not len(predictions):
        raise ValueError(
            f"Scores need a reference for each text, and at least one. Received: "
            f"{len(predictions)} predictions, {len(references)} references."
        )
    for number, text in enumerate(predictions):
        if not isinstance(text, str):
            raise ValueError(f"Row {number}: the prediction is {text!r:.60}; expected a text.")
    return listed_references(references)


def _optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError(
            "ROUGE, BLEU and chrF are computed by rouge-score and sacrebleu: "
            'pip install "keras_finetune[metrics]"'
        ) from None
