"""Keras's `quantize`, which collects garbage for each weight it replaces, made quick."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def few_objects_to_collect() -> Iterator[None]:
    """Leave the objects that exist out of garbage collections, while layers are quantized.

    A collection looks at all objects of all imported packages, a quarter of a second each time.
    Does nothing in a program that has frozen objects itself: Python can only unfreeze them all.

    Example:
        >>> with few_objects_to_collect():
        ...     gc.get_freeze_count() > 0
        True
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
