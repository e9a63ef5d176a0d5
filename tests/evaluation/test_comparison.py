import pytest

from keras_finetune.evaluation import comparison_table


def test_a_line_a_run():
    table = comparison_table(
        {"a": {"accuracy": 0.91234, "rows": 1200}, "b": {"accuracy": 0.8, "seconds": 3.0}}
    )
    assert [column.header for column in table.columns] == ["Run", "accuracy", "rows", "seconds"]
    assert [list(column.cells) for column in table.columns] == [
        ["a", "b"],
        ["0.9123", "0.8"],
        ["1,200", ""],
        ["", "3"],
    ]


def test_no_runs():
    with pytest.raises(ValueError, match="at least one run"):
        comparison_table({})
