import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_finetune.data.catalogue import prepared_builder, tf_data_examples, tfds_examples


class KftTestMail(tfds.core.GeneratorBasedBuilder):
    """A small data set that needs no network."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "text": tfds.features.Text(),
                "label": tfds.features.ClassLabel(names=["ham", "spam"]),
                "tags": tfds.features.Sequence(tfds.features.ClassLabel(names=["a", "b", "c"])),
                "answers": tfds.features.Sequence({"text": tfds.features.Text()}),
            }
        )
        return self.dataset_info_from_configs(features=features)

    def _split_generators(self, manager: object) -> dict:
        return {"train": self._generate_examples(30), "test": self._generate_examples(5)}

    def _generate_examples(self, count: int):
        for n in range(count):
            yield (
                n,
                {
                    "text": f"Grüße {n}",
                    "label": n % 2,
                    "tags": [n % 3] * (n % 2),
                    "answers": [{"text": "ja"}],
                },
            )


class KftTestBroken(KftTestMail):
    """A data set whose download fails."""

    def _split_generators(self, manager: object) -> dict:
        raise ConnectionError("no route to host")


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory):
    return prepared_builder("kft_test_mail", tmp_path_factory.mktemp("tfds"))


def test_rows_of_a_split(builder) -> None:
    examples = tfds_examples(builder, "train")
    assert set(examples.columns) == {"text", "label", "tags", "answers"}
    rows = sorted(examples, key=lambda row: int(row["text"].split()[1]))
    assert len(examples) == len(rows) == 30
    assert rows[5] == {
        "text": "Grüße 5",
        "label": 1,
        "tags": [2],
        "answers": {"text": ["ja"]},
    }
    assert list(examples) == list(examples)


def test_class_names_are_kept(builder) -> None:
    examples = tfds_examples(builder, "train")
    assert examples.label_names() == ["ham", "spam"]
    assert examples.rename({"tags": "topics"}).label_names("topics") == ["a", "b", "c"]


def test_a_seed_holds_whether_or_not_there_is_something_to_prepare(tmp_path: Path) -> None:
    drawn = []
    for _ in range(2):
        random.seed(0)
        prepared_builder("kft_test_mail", tmp_path)
        drawn.append(random.random())
    random.seed(0)
    assert drawn == [random.random()] * 2


def test_split_expressions(builder) -> None:
    assert len(tfds_examples(builder, "train[:50%]+test")) == 20
    prints = {tfds_examples(builder, name).fingerprint for name in ("train", "test", "train[:9]")}
    assert len(prints) == 3


def test_unknown_split(builder) -> None:
    with pytest.raises(ValueError, match=r'no split "tests". Splits: .*Did you mean "test"'):
        tfds_examples(builder, "tests")


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"neither a file .* Nearest names: .*imdb_reviews"):
        prepared_builder("imdb_review")


def test_unknown_configuration() -> None:
    with pytest.raises(ValueError, match=r'"glue/cola2": .*not found'):
        prepared_builder("glue/cola2")


def test_failed_download_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"(?s)no route to host.*copy its folder.*python_docs"):
        prepared_builder("kft_test_broken", tmp_path)


def test_offline_corpus_is_registered() -> None:
    with pytest.raises(ValueError, match=r'"python_docs/none"'):
        prepared_builder("python_docs/none")


def test_tf_data_of_scalars() -> None:
    dataset = tf.data.Dataset.from_tensor_slices({"text": ["a", "ü", "c"], "label": [1, 0, 1]})
    examples = tf_data_examples(dataset)
    assert list(examples)[1] == {"text": "ü", "label": 0}
    assert [type(value) for value in list(examples)[1].values()] == [str, int]


def test_tf_data_of_vectors_ragged_and_bytes() -> None:
    dataset = tf.data.Dataset.from_tensor_slices(
        {
            "words": tf.ragged.constant([["a", "b"], ["c"]]),
            "one_hot": np.eye(2, dtype="float32"),
            "raw": [b"\xff", b"ok"],
        }
    )
    assert list(tf_data_examples(dataset)) == [
        {"words": ["a", "b"], "one_hot": [1.0, 0.0], "raw": b"\xff"},
        {"words": ["c"], "one_hot": [0.0, 1.0], "raw": "ok"},
    ]


def test_tf_data_of_tuples_is_refused() -> None:
    with pytest.raises(ValueError, match="Dataset of dicts"):
        tf_data_examples(tf.data.Dataset.from_tensor_slices(([1], [2])))


@pytest.mark.slow
def test_two_processes_may_prepare_at_once(tmp_path):
    pytest.importorskip("django")
    code = (
        "import sys; from keras_finetune.data.catalogue import prepared_builder\n"
        "print(prepared_builder('python_docs/translation_en_zh', sys.argv[1]).info.splits['train'])"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, errors = process.communicate()
        assert process.returncode == 0, errors[-2_000:]
    assert not list(tmp_path.rglob("*incomplete*"))
