import io
import json

import numpy as np
import pytest
import rich.console
from sklearn import metrics

from keras_finetune.evaluation import classification_report


@pytest.mark.parametrize("seed", range(15))
def test_agrees_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 7))
    rows = int(rng.integers(1, 40))  # So few that some classes are missing on either side.
    labels, predictions = rng.integers(0, classes, (2, rows))
    names = [f"class {number}" for number in range(classes)]
    report = classification_report(labels, predictions, label_names=names)
    expected = metrics.classification_report(
        labels,
        predictions,
        labels=range(classes),
        target_names=names,
        output_dict=True,
        zero_division=0,
    )
    assert report.accuracy == pytest.approx(metrics.accuracy_score(labels, predictions))
    assert report.micro_f1 == pytest.approx(report.accuracy)
    assert report.macro_f1 == pytest.approx(expected["macro avg"]["f1-score"])
    assert report.weighted_f1 == pytest.approx(expected["weighted avg"]["f1-score"])
    for scores in report.per_class:
        found = [scores.precision, scores.recall, scores.f1, scores.support]
        assert found == pytest.approx(list(expected[scores.label].values()))
    np.testing.assert_array_equal(
        report.confusion_matrix,
        metrics.confusion_matrix(labels, predictions, labels=range(classes)),
    )


@pytest.mark.parametrize("seed", range(5))
def test_several_labels_agree_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (20, 4))
    scores = rng.random((20, 4))
    report = classification_report(labels, scores)
    said = scores > 0.5
    for average in ("macro", "micro", "weighted"):
        expected = metrics.f1_score(labels, said, average=average, zero_division=0)
        assert getattr(report, f"{average}_f1") == pytest.approx(expected)
    assert report.accuracy == pytest.approx(metrics.accuracy_score(labels, said))
    assert report.confusion_matrix is None


def test_scores_mean_the_greatest():
    scores = np.array([[0.1, 0.9], [2.0, -1.0]])
    assert classification_report([1, 0], scores).accuracy == 1.0


def test_a_single_column_of_scores_means_yes_above_the_threshold():
    scores = np.array([[0.1], [0.9], [0.8]])
    assert classification_report([0, 1, 1], scores).accuracy == 1.0
    assert classification_report([0, 1, 1], scores * 8 - 4, threshold=0).accuracy == 1.0
    assert classification_report([0, 1, 2], [[0], [1], [2]]).accuracy == 1.0


def test_classes_without_names_count_if_they_occur():
    labels, predictions = [0, 0, 5, 5], [0, 5, 5, 5]
    report = classification_report(labels, predictions)
    expected = metrics.f1_score(labels, predictions, average="macro")
    assert report.macro_f1 == pytest.approx(expected)


def test_as_json_and_as_text():
    report = classification_report([0, 1, 1], [0, 1, 0], label_names=["ham", "spam"])
    again = json.loads(json.dumps(report.as_dict()))
    assert again["per_class"]["spam"] == {
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "support": 2,
    }
    assert again["confusion_matrix"] == [[1, 0], [1, 1]]
    text = str(report)
    assert "spam" in text
    assert "macro F1" in text


def test_names_in_brackets_are_no_markup():
    report = classification_report([0, 1], [0, 1], label_names=["[bug]", "[/b]"])
    assert "[bug]" in str(report)
    assert "[/b]" in str(report)
    console = rich.console.Console(file=io.StringIO())
    console.print(report.table("[/b] title"))
    assert "[/b] title" in console.file.getvalue()


@pytest.mark.parametrize(
    ("labels", "predictions", "names", "message"),
    [
        ([], [], None, "at least one"),
        ([0, 1], [0], None, "2 labels, 1 predictions"),
        ([0, 2], [0, 1], ["a", "b"], "class 2 occurs, which needs 3"),
        ([0.5, 1], [0, 1], None, "labels must be whole class numbers"),
        ([0, 1], [-1, 1], None, "predictions must be whole"),
        ([[0, 2]], [[0, 1]], None, "labels are 0 or 1"),
        ([0, 2], [[0.1], [0.9]], None, "tells class 0 from class 1. Received: label 2"),
        ([0, 1], [[0.1, 0.9], [np.nan, 0.1]], None, "NaN in row 1"),
        ([[0, 1]], [[0.1, np.nan]], None, "NaN in row 0"),
        ([0, 1], [0, 1], ["a", "a"], "label_names must differ"),
    ],
)
def test_refused(labels, predictions, names, message):
    with pytest.raises(ValueError, match=message):
        classification_report(labels, predictions, label_names=names)
