"""What `tf.data` calls in Python, without staying in memory."""

import weakref
from collections.abc import Callable
from typing import Any


def weakly(function: Callable[..., Any]) -> Callable[..., Any]:
    """Call a function without keeping it, for the caller to keep as long as it is of use.

    TensorFlow keeps each Python function that a `tf.data.Dataset` calls as long as Python runs, and
    so the rows that it reads, and a model.
    """
    import tensorflow as tf

    if not tf.executing_eagerly():  # A data set that a `map` makes is gone when that was traced.
        return function
    reference = weakref.ref(function)

    def call(*args: Any) -> Any:
        kept = reference()
        if kept is None:
            raise RuntimeError(
                "The data set from which this one is derived is gone. Keep it in a variable as "
                "long as this one is read."
            )
        return kept(*args)

    return call
