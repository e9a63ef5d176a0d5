"""Checks of the arguments of `compile` and `fit` that go on to Keras, made before it sees them."""

import inspect
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import keras

from keras_finetune.data.int_checks import is_int
from keras_finetune.suggest import did_you_mean
from keras_finetune.tuning.data_kinds import is_tf_dataset

_FORMER_NAMES = {"lr": "learning_rate", "nb_epoch": "epochs"}
# What Keras chooses among a few by the shape of the labels.
_CHOSEN_LATER = ("crossentropy", "ce", "accuracy", "acc")


def check_arguments(
    ours: Callable[..., Any],
    keras_own: Callable[..., Any],
    given: Iterable[str],
    others: Iterable[Callable[..., Any]] = (),
) -> None:
    """Refuse arguments that neither a method of `FineTuner` nor the model's takes.

    Args:
        ours: The method of `FineTuner`.
        keras_own: The model's method of that name; one that takes any argument is believed.
        given: The names of the arguments that are meant for it.
        others: Methods that the arguments may have been meant for.

    Raises:
        TypeError: As Python's own for an unknown argument, with where it belongs or the nearest
            name.
    """
    parameters = inspect.signature(keras_own).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return
    known = [*inspect.signature(ours).parameters, *parameters]
    for name in given:
        if name not in known:
            now = _FORMER_NAMES.get(name, name)
            owners = [x.__name__ for x in others if now in inspect.signature(x).parameters]
            hint = f" Give it to {owners[0]}(..., {now}=...)." if owners else ""
            raise TypeError(
                f"{ours.__name__} takes no argument {name!r}.{hint or did_you_mean(now, known)}"
            )


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


def check_folder(name: str, folder: "str | os.PathLike[str]") -> None:
    """Require a folder, which need not exist yet, to be one that can be written to.

    Args:
        name: The argument's name.
        folder: What it was given. What is in one already may be all that is wanted.

    Raises:
        ValueError: A file stands in its place, or nothing can be written there.
    """
    place = Path(folder).absolute()
    if place.is_dir() and any(place.iterdir()):
        return
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ValueError(
            f"{name} must be a folder that can be written to. Received: {str(folder)!r}, but "
            f"{place} takes no files ({error.strerror}). Give another folder."
        ) from None


def check_fit_numbers(epochs: Any, fit_args: Mapping[str, Any]) -> None:
    """Refuse numbers that are out of range, which Keras trains with or fails on later.

    Args:
        epochs: What was given as `epochs`.
        fit_args: Further arguments of `keras.Model.fit`.

    Raises:
        ValueError: A size is no int of at least 1, a share is not from 0 to below 1, or the first
            epoch comes after the last.
    """
    check_count(epochs=epochs)
    first = fit_args.get("initial_epoch", 0)
    if not is_int(first) or not 0 <= first < epochs:
        raise ValueError(
            "initial_epoch must be an int from 0 to below epochs, the number of the last epoch. "
            f"Received: initial_epoch={first!r}, epochs={epochs}. For n more epochs give "
            "epochs=initial_epoch + n."
        )
    every = fit_args.get("validation_freq", 1)
    if not isinstance(every, list) and not (isinstance(every, int) and every >= 1):
        raise ValueError(
            "validation_freq must be an int of at least 1, or a list of epochs. Received: "
            f"{every!r}"
        )
    sizes = ("batch_size", "steps_per_epoch", "validation_batch_size", "validation_steps")
    check_count(**{name: fit_args[name] for name in sizes if fit_args.get(name) is not None})
    share = fit_args.get("validation_split") or 0.0
    if not isinstance(share, Real) or not 0 <= float(share) < 1:
        raise ValueError(f"validation_split must be a float from 0 to below 1. Received: {share!r}")


def check_read_again(x: Any, epochs: int, fit_args: Mapping[str, Any]) -> None:
    """Refuse a generator where several epochs need its rows: it gives them once.

    Args:
        x: What goes into `fit`.
        epochs: int, passes over it.
        fit_args: Further arguments of `keras.Model.fit`.

    Raises:
        ValueError: It is a generator, and nothing says how much of it is an epoch.
    """
    if inspect.isgenerator(x) and epochs > 1 and not fit_args.get("steps_per_epoch"):
        raise ValueError(
            f"A generator gives its rows once, but {epochs} epochs read them {epochs} times. Give "
            "arrays, tf.data.Dataset.from_generator(function, ...), or, if it never ends, "
            "steps_per_epoch."
        )


def check_ends(side: str, data: Any, steps: str, given: Mapping[str, Any]) -> None:
    """Refuse a `tf.data` pipeline that never ends, unless the steps to take of it are given.

    Args:
        side: What to call the data in an error.
        data: What goes into `fit` or `evaluate`.
        steps: The argument that says how many batches are read.
        given: Further arguments of that call.

    Raises:
        ValueError: It never ends, and nothing says how much of it is read.
    """
    if is_tf_dataset(data) and int(data.cardinality()) == -1 and not given.get(steps):
        raise ValueError(
            f"The {side} is a tf.data.Dataset that never ends, and nothing says how many batches "
            f"of it to read. Give {steps}=..., or leave out .repeat()."
        )


def checked_callbacks(callbacks: Any) -> list[keras.callbacks.Callback]:
    """Return what was given as callbacks as a list; Keras takes one alone, or nested lists, too.

    Args:
        callbacks: One, a list, or None.

    Raises:
        ValueError: Something among them is no callback.
    """
    listed: list[Any] = [] if callbacks is None else keras.tree.flatten(callbacks)
    for each in listed:
        if not isinstance(each, keras.callbacks.Callback):
            hint = f" Make one of it: {each.__name__}(...)." if isinstance(each, type) else ""
            raise ValueError(
                "callbacks must be a keras.callbacks.Callback or a list of them. Received: "
                f"{each!r}.{hint}"
            )
    return listed


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
        given = compile_args.get(argument)
        if what == "metric" and not isinstance(given, list | tuple | Mapping | None):
            raise ValueError(
                f'{argument} must be a list, as in {argument}=["accuracy"]. Received: {given!r}'
            )
        for leaf in _leaves(given):
            if isinstance(leaf, Mapping):
                raise ValueError(
                    f"{argument} holds the dict that keras.saving makes of a {what}, of class "
                    f"{leaf['class_name']!r}. Give {module.__name__}.deserialize(...) of it."
                )
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
    """What stands in dicts and lists, objects that are written down as a dict included."""
    if nest is None:
        return
    is_written_down = isinstance(nest, Mapping) and {"class_name", "config"} <= nest.keys()
    if isinstance(nest, Mapping | list | tuple) and not is_written_down:
        for each in nest.values() if isinstance(nest, Mapping) else nest:
            yield from _leaves(each)
    else:
        yield nest
