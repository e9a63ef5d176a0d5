import keras
import pytest

from keras_finetune import FineTuner
from keras_finetune.tuning import freeze, learning_rate_groups, summary_table


def rows(table):
    first, *others = (list(column.cells) for column in table.columns)
    return dict(zip(first, zip(*others, strict=True), strict=True))


def test_rows(model):
    freeze(model, "backbone", bottom=1)
    found = rows(summary_table(model, *learning_rate_groups(model, {"head": 0.1, "*": 0.01})))
    assert found["token_embedding"] == ("embeddings", "160", "no", "")
    assert found["block_1"] == ("backbone", "144", "144", "0.01")
    assert found["head_logits"] == ("head", "27", "27", "0.1")
    assert found["total"] == ("", "475", "171 (36.0%)", "")


def test_names_in_brackets_are_no_markup(capsys):
    layers = [keras.Input((2,)), keras.layers.Dense(2, name="[red]")]
    FineTuner(keras.Sequential(layers, name="[bold]")).summary()
    shown = capsys.readouterr().out
    assert "[bold]" in shown
    assert "[red]" in shown


def test_a_model_that_is_not_built_says_so():
    tuner = FineTuner(keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(2)]))
    tuner.compile("adam", "mse", learning_rate={"backbone": 1e-4, "head": 1e-3})
    with pytest.raises(ValueError, match=r"no layers to list yet.* is not built.*keras\.Input"):
        tuner.summary()
