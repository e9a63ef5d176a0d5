"""With JAX, keeping a model's values when a step fails that was given them."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def values_kept(model: keras.Model) -> Iterator[None]:
    """Let a model have its weights after a `fit`, `evaluate` or `predict` that failed.

    With JAX, Keras takes the values from the variables for the time of the steps, and puts back
    what the last step returned. When the first one cannot be traced, the model is left without.

    Args:
        model: A built model.
    """
    if keras.backend.backend() != "jax":
        yield
        return
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *(optimizer.variables if optimizer is not None else ())]
    # No copies: a step that runs frees these arrays, whoever refers to them.
    kept = [variable._value for variable in variables]
    try:
        yield
    except BaseException:
        model.jax_state_sync()
        for variable, value in zip(variables, kept, strict=True):
            if variable._value is None and value is not None and not value.is_deleted():
                variable._value = value
        raise
