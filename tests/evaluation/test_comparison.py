import io

import pytest
import rich.console

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


def test_names_in_brackets_are_no_markup():
    console = rich.console.Console(file=io.StringIO())
    console.print(comparison_table({"[run]": {"[/b]": 1}}, title="[red]"))
    assert all(name in console.file.getvalue() for name in ("[run]", "[/b]", "[red]"))


def test_no_runs():
    with pytest.raises(ValueError, match="at least one run"):
        comparison_table({})
