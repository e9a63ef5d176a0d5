import sys

import pytest

from keras_finetune.evaluation import classification_report, plot_confusion_matrix, plot_history

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


def test_confusion_matrix():
    report = classification_report([0, 1, 1], [0, 1, 0], label_names=["ham", "spam"])
    ax = plot_confusion_matrix(report)
    assert [text.get_text() for text in ax.texts] == ["1", "0", "1", "1"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["ham", "spam"]
    matplotlib.pyplot.close("all")


def test_several_labels_have_none():
    with pytest.raises(ValueError, match="no confusion matrix"):
        plot_confusion_matrix(classification_report([[0, 1]], [[0.0, 1.0]]))


def test_history():
    ax = plot_history({"accuracy": [0.5, 0.7], "loss": [1, 2]}, metric="accuracy")
    assert list(ax.lines[0].get_ydata()) == [0.5, 0.7]
    with pytest.raises(ValueError, match="no 'f1'"):
        plot_history({"loss": [1]}, metric="f1")
    matplotlib.pyplot.close("all")


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="pip install"):
        plot_history({"loss": [1]})
