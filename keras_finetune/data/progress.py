"""A progress bar for long loops."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def track(
    iterable: Iterable[T],
    description: str,
    total: int | None = None,
    *,
    size: Callable[[T], int] = lambda item: 1,
) -> Iterator[T]:
    """Yield from `iterable` while a progress bar on stderr counts the items.

    Where stderr is not a terminal (a log file, CI) it prints one line at the start and one at the
    end instead, so that logs stay short.

    Args:
        iterable: What to go through.
        description: What is being done, for example ``"Encoding"``.
        total: Number of items; taken from ``len(iterable)`` when it is not given. Unknown totals
            show a count without a percentage.
        size: How much an item counts, for example the rows of a chunk.

    Yields:
        The items of `iterable`.

    Example:
        >>> sum(track(range(4), "Adding"))
        6
    """
    if total is None:
        try:
            total = len(iterable)  # type: ignore[arg-type]
        except TypeError:
            total = None
    if sys.stderr.isatty():
        yield from _bar(iterable, description, total, size)
    else:
        yield from _lines(iterable, description, total, size)


def _bar(
    iterable: Iterable[T], description: str, total: int | None, size: Callable[[T], int]
) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
    )
    with progress:
        bar = progress.add_task(description, total=total)
        for item in iterable:
            yield item
            progress.advance(bar, size(item))


def _lines(
    iterable: Iterable[T], description: str, total: int | None, size: Callable[[T], int]
) -> Iterator[T]:
    of_total = "" if total is None else f" ({total:,})"
    print(f"{description}{of_total} ...", file=sys.stderr, flush=True)
    started = time.perf_counter()
    count = 0
    for item in iterable:
        yield item
        count += size(item)
    seconds = time.perf_counter() - started
    print(f"{description}: {count:,} in {seconds:.1f} s", file=sys.stderr, flush=True)
