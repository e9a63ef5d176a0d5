"""A TFDS data set that is made offline: the documentation inside the installed packages."""

import dataclasses
import importlib.metadata
import platform
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from keras_finetune.data.django_messages import translation_rows
from keras_finetune.data.docstring_questions import question_answering_rows
from keras_finetune.data.docstring_splits import SPLITS, Row, digest, split_of, with_one_home
from keras_finetune.data.docstring_summaries import summarization_rows
from keras_finetune.data.docstrings import Docstring, kept_docstrings, package_folder

LABELS = ("tensorflow", "keras", "numpy", "tensorflow_datasets", "python")
MAX_PASSAGES = 4_000  # a class
MIN_CHARS, MAX_CHARS = 40, 800  # a passage
_FULL_CHARS = 400
_MIN_WORDS = 7
_MIN_LM_CHARS = 100

_NAME = (
    r"(?:tensorflow[ _.]datasets|tensorflow|keras|numpy|tfds|python"
    r"|(?<![a-z])(?:tf|np)(?![a-z]))"
)
_NAMES = re.compile(rf"{_NAME}(?:\.{_NAME})*", re.IGNORECASE)


def mask_names(text: str) -> str:
    """Replace the names of the packages, and their aliases, with ``PACKAGE``.

    Example:
        >>> mask_names("Like `np.mean`, but see tf.keras.ops and TensorFlow Datasets.")
        'Like `PACKAGE.mean`, but see PACKAGE.ops and PACKAGE.'
    """
    return _NAMES.sub("PACKAGE", text)


def paragraphs(docstring: str) -> Iterator[str]:
    r"""Cut a docstring into its paragraphs of prose, one line each, names masked.

    Code is left out, and so are the underlines of headings, and what is shorter than 40 or longer
    than 800 characters.

    Example:
        >>> text = "Sum the values of an array along one\n   axis or over all axes.\n\n>>> f(1)"
        >>> list(paragraphs(text))
        ['Sum the values of an array along one axis or over all axes.']
    """
    without_code = re.sub(r"```.*?(```|\Z)", "\n\n", docstring, flags=re.DOTALL)
    for paragraph in re.split(r"\n\s*\n", without_code):
        text = " ".join(re.sub(r"([-=~*^])\1{2,}", " ", paragraph).split())
        text = mask_names(text)
        if ">>>" in text or not MIN_CHARS <= len(text) <= MAX_CHARS:
            continue
        letters = sum(char.isalpha() or char == " " for char in text)
        words = re.findall(r"(?<!\S)[(`\"']*[A-Za-z]{2,}[`\"').,:;]*(?!\S)", text)
        if len(words) >= _MIN_WORDS and letters >= 0.8 * len(text):
            yield text


def join_paragraphs(texts: Iterable[str]) -> Iterator[str]:
    """Join neighbouring paragraphs to passages of 400 to 800 characters, where there are enough.

    Example:
        >>> [len(text) for text in join_paragraphs(["a" * 300, "b" * 300, "c" * 100])]
        [601, 100]
    """
    passage = ""
    for text in texts:
        longer = f"{passage} {text}".lstrip()
        if len(longer) > MAX_CHARS:
            yield passage
            longer = text
        passage = longer
        if len(passage) >= _FULL_CHARS:
            yield passage
            passage = ""
    if passage:
        yield passage


def classification_rows(docstrings: Iterable[Docstring]) -> Iterator[Row]:
    """Make the rows of ``classification``: which package does this passage document?

    Each paragraph is used once. One that several packages have, or modules of several splits, is
    left out, so that each has one answer and none of the test set was seen in training. Of a
    package with many passages those whose hash comes first are kept.

    Args:
        docstrings: The documentation, in a fixed order.

    Yields:
        Rows with ``text``, ``label`` and ``module``, sorted by package, then by hash.
    """
    documents = [(docstring, list(paragraphs(docstring.text))) for docstring in docstrings]
    unused = set(with_one_home((text, home) for home, texts in documents for text in texts))
    passages: list[tuple[str, Docstring]] = []
    for docstring, texts in documents:
        fresh = [text for text in dict.fromkeys(texts) if text in unused]
        unused.difference_update(fresh)
        passages += [(text, docstring) for text in join_paragraphs(fresh)]
    rows: dict[str, list[Row]] = defaultdict(list)
    # Once more: joined paragraphs may read like one that is whole elsewhere.
    for text, home in with_one_home(passages).items():
        rows[home.package].append({"text": text, "label": home.package, "module": home.module})
    for package in sorted(rows):
        yield from sorted(rows[package], key=lambda row: digest(row["text"]))[:MAX_PASSAGES]


def language_modeling_rows(docstrings: Iterable[Docstring]) -> Iterator[Row]:
    """Make the rows of ``language_modeling``: whole docstrings, as they are written.

    Each text is there once, whatever its white space; one that several packages, or modules
    of several splits, have is left out.

    Args:
        docstrings: The documentation, in a fixed order.

    Yields:
        Rows with ``text`` and ``module``.
    """
    long = (docstring for docstring in docstrings if len(docstring.text) >= _MIN_LM_CHARS)
    texts = ((" ".join(docstring.text.split()), docstring) for docstring in long)
    for home in with_one_home(texts).values():
        yield {"text": home.text, "module": home.module}


def _installed_version(package: str) -> str:
    if package == "python":
        return platform.python_version()
    for distribution in (package, f"{package}-cpu", f"{package}-intel"):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"


def _data_version(packages: Iterable[str] = LABELS) -> str:
    """Return ``1.0.N``: N stands for the versions of the packages that the text is from."""
    installed = " ".join(f"{package}={_installed_version(package)}" for package in packages)
    return f"1.0.{zlib.crc32(installed.encode()) % 1_000_000}"


@dataclasses.dataclass(kw_only=True)
class _Config(tfds.core.BuilderConfig):
    """An application: which columns it has, and how its rows are made of docstrings.

    `key` is the column that no two rows share, `split_by` the one that decides the split.
    """

    features: Callable[[], tfds.features.FeaturesDict]
    make_rows: Callable[[Iterable[Docstring]], Iterator[Row]]
    key: str = "text"
    split_by: str = "module"


def _classification_features() -> tfds.features.FeaturesDict:
    return tfds.features.FeaturesDict(
        {
            "text": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=LABELS),
            "module": tfds.features.Text(),
        }
    )


def _language_modeling_features() -> tfds.features.FeaturesDict:
    return tfds.features.FeaturesDict(
        {"text": tfds.features.Text(), "module": tfds.features.Text()}
    )


def _texts(*columns: str) -> Callable[[], tfds.features.FeaturesDict]:
    return lambda: tfds.features.FeaturesDict({name: tfds.features.Text() for name in columns})


def _django_rows(docstrings: Iterable[Docstring]) -> Iterator[Row]:
    try:
        folder = package_folder("django")
    except ValueError:
        raise ImportError(
            "python_docs/translation_en_zh is made of the catalogues of an installed Django: "
            'pip install "keras_finetune[examples]", or pip install django'
        ) from None
    return translation_rows(folder)


def _question_answering_features() -> tfds.features.FeaturesDict:
    answers = {"text": tfds.features.Text(), "answer_start": np.int32}
    texts = ("id", "question", "context", "module")
    return tfds.features.FeaturesDict(
        {
            **{name: tfds.features.Text() for name in texts},
            "answers": tfds.features.Sequence(answers),
        }
    )


class PythonDocs(tfds.core.GeneratorBasedBuilder):
    """The documentation of the installed tensorflow, keras, numpy, TFDS and standard library.

    It needs no network: the text is that of the docstrings in the files of the packages. Splits
    are made by module. The version is ``1.0.N``, where N stands for the installed versions: after
    an upgrade the data are prepared anew, beside the old ones.

    ``classification``: which package does this passage document? Passages are one or a
    few paragraphs, 40 to 800 characters; the packages' names in them are masked: ``PACKAGE``.

    ``language_modeling``: the plain text of whole docstrings.

    ``summarization``: which first line stood above the rest of this docstring?

    ``translation_en_zh``: the messages of an installed Django in English and Chinese; its version
    stands for Django's, and the English message decides the split.

    ``question_answering``: what is said of a parameter or an exception? The answer is the first
    sentence of its description in the docstring. The columns are those of TFDS's ``squad``.

    Example:
        >>> sorted(PythonDocs.builder_configs)[:3]
        ['classification', 'language_modeling', 'question_answering']
    """

    VERSION = tfds.core.Version(_data_version())
    RELEASE_NOTES: dict[str, str] = {}  # noqa: RUF012  a name of TFDS
    BUILDER_CONFIGS = [  # noqa: RUF012
        _Config(
            name="classification",
            description="Which package does this passage document?",
            features=_classification_features,
            make_rows=classification_rows,
        ),
        _Config(
            name="language_modeling",
            description="The plain text of whole docstrings.",
            features=_language_modeling_features,
            make_rows=language_modeling_rows,
        ),
        _Config(
            name="summarization",
            description="Which first line stood above the rest of this docstring?",
            features=_texts("document", "summary", "module"),
            make_rows=summarization_rows,
            key="document",
        ),
        _Config(
            name="translation_en_zh",
            version=_data_version(["django"]),
            description="The messages of an installed Django in English and Chinese.",
            features=_texts("en", "zh", "catalogue"),
            make_rows=_django_rows,
            key="en",
            split_by="en",
        ),
        _Config(
            name="question_answering",
            description="What is said of a parameter or an exception?",
            features=_question_answering_features,
            make_rows=question_answering_rows,
            key="id",
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Documentation of installed Python packages, split by module.",
            features=self.builder_config.features(),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, Row]]]:
        docstrings = (
            docstring
            for package in LABELS
            for docstring in kept_docstrings(
                package, package_folder(package), _installed_version(package)
            )
        )
        rows: dict[str, list[Row]] = {split: [] for split in SPLITS}
        for row in self.builder_config.make_rows(docstrings):
            rows[split_of(row[self.builder_config.split_by])].append(row)
        return {split: self._generate_examples(rows[split]) for split in SPLITS}

    def _generate_examples(self, rows: list[Row]) -> Iterator[tuple[str, Row]]:
        for row in rows:
            key = row[self.builder_config.key]
            yield key if self.builder_config.key == "id" else digest(key), row
