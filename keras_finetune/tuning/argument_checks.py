"""Checks of the arguments of `compile` and `fit` that go on to Keras, made before it sees them."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Integral
from typing import Any, TypeGuard

import keras

from keras_finetune.suggest import did_you_mean

_FORMER_NAMES = {"lr": "learning_rate", "nb_epoch": "epochs"}
# What Keras chooses among a few by the shape of the labels.
_CHOSEN_LATER = ("crossentropy", "ce", "accuracy", "acc")


def check_arguments(
    ours: Callable[..., Any], keras_own: Callable[..., Any], given: Iterable[str]
) -> None:
    """Refuse arguments that neither a method of `FineTuner` nor the model's takes.

    Args:
        ours: The method of `FineTuner`.
        keras_own: The model's method of that name; one that takes any argument is believed.
        given: The names of the arguments that are meant for it.

    Raises:
        TypeError: As Python's own for an unknown argument, with the nearest name.
    """
    parameters = inspect.signature(keras_own).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return
    known = [*inspect.signature(ours).parameters, *parameters]
    for name in given:
        if name not in known:
            hint = did_you_mean(_FORMER_NAMES.get(name, name), known)
            raise TypeError(f"{ours.__name__} takes no argument {name!r}.{hint}")


def is_int(value: Any) -> TypeGuard[int]:
    """Tell whether a value is an int, Python's or NumPy's, and no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_count(**values: Any) -> None:
    """Require every value to be an int of at least 1, Python's or NumPy's.

    Args:
        **values: The values by argument name.

    Raises:
        ValueError: A value is no int, or is below 1.
    """
    for name, value in values.items():
        if not is_int(value) or value < 1:
            raise ValueError(f"{name} must be an int of at least 1. Received: {name}={value!r}.")


def check_fit_numbers(fit_args: Mapping[str, Any]) -> None:
    """Refuse sizes and shares that are out of range, which Keras trains with or fails on later.

    Args:
        fit_args: Further arguments of `keras.Model.fit`.

    Raises:
        ValueError: A size is no int of at least 1, or a share is not from 0 to below 1.
    """
    sizes = ("batch_size", "steps_per_epoch", "validation_batch_size", "validation_steps")
    check_count(**{name: fit_args[name] for name in sizes if fit_args.get(name) is not None})
    share = fit_args.get("validation_split") or 0.0
    if not isinstance(share, int | float) or not 0 <= share < 1:
        raise ValueError(f"validation_split must be a float from 0 to below 1. Received: {share!r}")


def check_loss_and_metrics(model: keras.Model, compile_args: Mapping[str, Any]) -> None:
    """Refuse losses and metrics that Keras does not know, which it says in the first step only.

    Args:
        model: The model; one with a `compile` of its own may know others.
        compile_args: What is to go into its `compile`.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> check_loss_and_metrics(model, {"loss": "mean_squared_eror"})
        Traceback (most recent call last):
        ...
        ValueError: Keras has no loss 'mean_squared_eror'. Did you mean "mean_squared_error"?
    """
    if type(model).compile is not keras.Model.compile:
        return
    for argument, what, module in (
        ("loss", "loss", keras.losses),
        ("metrics", "metric", keras.metrics),
        ("weighted_metrics", "metric", keras.metrics),
    ):
        for leaf in _leaves(compile_args.get(argument)):
            if isinstance(leaf, str):
                _check_name(what, module, leaf)
            elif not callable(leaf) or (what == "loss" and isinstance(leaf, type)):
                raise ValueError(
                    f"{argument} must be names or functions, or objects such as those of "
                    f"{module.__name__}. Received: {leaf!r}"
                )


def _check_name(what: str, module: Any, name: str) -> None:
    if name.lower() in _CHOSEN_LATER:
        return
    try:
        module.get(name)
    except ValueError:
        known = ["accuracy", *(each for each in vars(module) if not each.startswith("_"))]
        raise ValueError(f"Keras has no {what} {name!r}.{did_you_mean(name, known)}") from None
    except TypeError as error:
        raise ValueError(
            f"Keras cannot make the {what} {name!r} without arguments ({error}). Give the object."
        ) from None


def _leaves(nest: Any) -> Iterator[Any]:
    """What stands in dicts and lists, but for objects that are written down as a dict."""
    if nest is None or (isinstance(nest, Mapping) and "class_name" in nest):
        return
    if isinstance(nest, Mapping | list | tuple):
        for each in nest.values() if isinstance(nest, Mapping) else nest:
            yield from _leaves(each)
    else:
        yield nest
