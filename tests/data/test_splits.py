import collections
from collections.abc import Callable

import numpy as np
import pytest

from keras_finetune.data.examples import Examples
from keras_finetune.data.splits import split


def numbers(count: int, **columns: list) -> Examples:
    return Examples.from_columns({"n": list(range(count)), **columns})


@pytest.mark.parametrize("sizes", [(0.1, 0.1), (7, 13), (0.25, 0), (0, 5), (0, 0), (0.005, 0.005)])
def test_a_row_is_in_exactly_one_split(sizes: tuple) -> None:
    parts = [part.column("n") for part in split(numbers(100), *sizes)]
    assert sorted(n for part in parts for n in part) == list(range(100))
    expected = [s if isinstance(s, int) else max(1, round(100 * s)) for s in sizes]
    assert [len(parts[1]), len(parts[2])] == expected
    assert parts[0] == sorted(parts[0])


def test_deterministic_in_the_seed() -> None:
    def test_rows(seed: int) -> list:
        return split(numbers(50), seed=seed).test.column("n")

    assert test_rows(3) == test_rows(3)
    assert test_rows(3) != test_rows(4)
    assert test_rows(0) == [2, 4, 18, 23, 36]  # the same on every machine


def test_by_keeps_groups_whole_and_meets_sizes() -> None:
    groups = [f"g{n * n % 37}" for n in range(1000)]
    parts = split(numbers(1000, group=groups), 0.1, 0.2, by="group")
    seen = [set(part.column("group")) for part in parts]
    assert sum(map(len, seen)) == len(set.union(*seen)) == len(set(groups))
    assert sum(map(len, parts)) == 1000
    assert 60 <= len(parts.validation) <= 100
    assert 140 <= len(parts.test) <= 200


def test_by_with_groups_larger_than_the_sets() -> None:
    parts = split(numbers(9, group=list("aaabbbccc")), 0.1, 0.1, by="group")
    assert [len(part) for part in parts] == [3, 3, 3]
    with pytest.raises(ValueError, match="column 'group' has too few groups"):
        split(numbers(6, group=list("aaabbb")), 0.1, 0.1, by="group")


def test_stratify_keeps_proportions() -> None:
    labels = ["a"] * 700 + ["b"] * 200 + ["c"] * 100
    np.random.Generator(np.random.PCG64(1)).shuffle(labels)
    parts = split(numbers(1000, label=labels), 0.1, 0.2, stratify="label")
    assert [len(part) for part in parts] == [700, 100, 200]
    for part, share in zip(parts, (0.7, 0.1, 0.2), strict=True):
        found = collections.Counter(part.column("label"))
        for label, count in {"a": 700, "b": 200, "c": 100}.items():
            assert abs(found[label] - share * count) <= 1


def test_stratify_leaves_a_rare_label_in_train() -> None:
    for seed in range(20):
        labels = ["a"] * 30 + ["rare"] + ["b"] * 9
        parts = split(numbers(40, label=labels), 0.3, 0.3, stratify="label", seed=seed)
        assert "rare" in parts.train.column("label")


@pytest.mark.parametrize("as_column", [list, np.array])
def test_lists_of_labels(as_column: Callable) -> None:
    vectors = [[1, 0, 1], [0, 1, 1], [0, 0, 0], [1, 0, 1]] * 10
    rows = numbers(40, tags=as_column(vectors))
    for part, each in zip(split(rows, 0.2, 0.1, stratify="tags"), (7, 2, 1), strict=True):
        found = collections.Counter(map(str, map(list, part.column("tags"))))
        assert sorted(found.values()) == [each, each, 2 * each]
    assert [len(part) for part in split(rows, 10, 10, by="tags")] == [20, 10, 10]
    with pytest.raises(ValueError, match=r"Row 0, column 'tags': .* is a dict; expected strings"):
        split(numbers(9, tags=[{"a": 1}] * 9), by="tags")


def test_duplicates_stay_together_by_text() -> None:
    texts = [f"text {n % 40}" for n in range(80)]
    parts = split(numbers(80, text=texts), by="text")
    assert not set(parts.train.column("text")) & set(parts.test.column("text"))


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (0, {}, "0 rows are too few"),
        (2, {}, "2 rows are too few"),
        (10, {"validation": 5, "test": 5}, "10 rows are too few for validation=5 and test=5"),
        (10, {"validation": 0.6, "test": 0.4}, "at least one row"),
        (10, {"validation": 1.0}, "pass the int 1"),
        (10, {"test": -1}, "test=-1: expected a fraction"),
        (10, {"test": True}, "test=True"),
        (10, {"test": None}, "test=None"),
        (10, {"test": float("nan")}, "test=nan"),
        (10, {"by": "m"}, 'no column "m"'),
        (10, {"by": "n", "stratify": "n"}, "not both"),
    ],
)
def test_what_cannot_be(count: int, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split(numbers(count), **options)
