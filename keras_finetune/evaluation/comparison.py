"""Several runs side by side."""

from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table


def comparison_table(
    results: Mapping[str, Mapping[str, float]], *, title: str | None = None
) -> Table:
    """Put the figures of several runs into a table, a line a run.

    Args:
        results: Name of the run -> name of the figure -> its value. A figure that a run lacks is
            left empty.
        title: Stands above the table.

    Returns:
        A rich table; `rich.print` shows it.

    Example:
        >>> table = comparison_table({"frozen": {"accuracy": 0.8}, "tuned": {"accuracy": 0.9}})
        >>> [list(column.cells) for column in table.columns]
        [['frozen', 'tuned'], ['0.8', '0.9']]
    """
    if not results:
        raise ValueError("comparison_table needs at least one run. Received none.")
    figures = list(dict.fromkeys(name for values in results.values() for name in values))
    table = Table(title=title and escape(title))
    table.add_column("Run")
    for name in figures:
        table.add_column(escape(name), justify="right")
    for run, values in results.items():
        table.add_row(escape(run), *(_shown(values.get(name)) for name in figures))
    return table


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
