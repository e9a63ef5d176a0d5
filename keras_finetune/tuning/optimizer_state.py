"""Optimizer state, by variable: what was learned about a variable goes where the variable goes."""

from collections.abc import Sequence
from typing import Any

import keras
from keras.optimizers.schedules import LearningRateSchedule

from keras_finetune.tuning.fused_updates import fuse_updates
from keras_finetune.tuning.grouped_optimizer import GroupedOptimizer
from keras_finetune.tuning.groups import LearningRateGroup


def make_optimizer(
    template: keras.optimizers.Optimizer,
    learning_rate: float | LearningRateSchedule,
    groups: Sequence[LearningRateGroup],
    variables: Sequence[keras.Variable],
    *,
    previous: keras.optimizers.Optimizer | None = None,
    step: int = 0,
) -> keras.optimizers.Optimizer:
    """Make a built optimizer for groups of variables that goes on where a previous one stopped.

    A Keras optimizer that was built refuses variables that it has not seen, so that every change of
    what is trainable needs a new one. Moments, accumulated gradients and moving averages of a
    variable that both know are copied; a variable that only the new one knows starts at zero, with
    its own count of updates. One group of one age gets a plain Keras optimizer.

    Args:
        template: A Keras optimizer that says the method and its settings; it is not changed.
        learning_rate: The base rate, a float or schedule.
        groups: The groups, together holding each of `variables` once.
        variables: The model's trainable variables, in the model's order.
        previous: The optimizer used so far, or None.
        step: Batches that the learning-rate schedule has seen.

    Returns:
        A built Keras optimizer.
    """
    previous = unwrap(previous) if previous is not None else None
    if previous is not None and method(previous) is not method(template):
        previous = None
    position = {id(variable): index for index, variable in enumerate(variables)}
    parts: dict[tuple[int, int], tuple[LearningRateGroup, Any, list[int]]] = {}
    for number, group in enumerate(groups):
        for variable in group.variables:
            source = _source(previous, variable)
            part = parts.setdefault((number, id(source)), (group, source, []))
            part[2].append(position[id(variable)])
    template = clone(template, learning_rate)
    divisor = template.gradient_accumulation_steps or 1
    ages = [_age(source) for _, source, _ in parts.values()]
    first = next(iter(parts.values()))[0]
    if len(parts) == 1 and first.scale == 1.0 and not first.schedule and ages[0] * divisor == step:
        optimizer = template
        members = [optimizer]
    else:
        specification = [
            {"indices": sorted(indices), "scale": group.scale, "schedule": group.schedule}
            for group, _, indices in parts.values()
        ]
        optimizer = GroupedOptimizer(template, specification)
        members = optimizer.members
    optimizer.build(list(variables))
    for each in dict.fromkeys([optimizer, *members]):
        fuse_updates(each)
    for member, (_, source, _), age in zip(members, parts.values(), ages, strict=True):
        _copy_scalars(source, member)
        member._iterations.assign(age)
    optimizer._iterations.assign(step)
    _copy_slots(previous, optimizer, variables)
    return optimizer


def carry_state(
    previous: keras.optimizers.Optimizer, optimizer: keras.optimizers.Optimizer
) -> list[keras.Variable]:
    """Copy the state of every variable that two built optimizers both know.

    Args:
        previous: The optimizer to copy from.
        optimizer: The optimizer to copy to, of the same method.

    Returns:
        The variables whose state was copied.

    Example:
        >>> import keras
        >>> a, b = keras.Variable([1.0]), keras.Variable([1.0])
        >>> old, new = keras.optimizers.Adam(), keras.optimizers.Adam()
        >>> old.apply([keras.ops.ones(1)], [a])
        >>> new.build([a, b])
        >>> len(carry_state(old, new))
        1
    """
    variables = optimizer._trainable_variables
    _copy_slots(unwrap(previous), unwrap(optimizer), variables)
    known = {id(variable) for variable in unwrap(previous)._trainable_variables}
    return [variable for variable in variables if id(variable) in known]


def unwrap(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Return the optimizer that a `LossScaleOptimizer` wraps, or the optimizer itself."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer.inner_optimizer
    return optimizer


def method(optimizer: keras.optimizers.Optimizer) -> type:
    """Return the class that says how an optimizer updates."""
    if isinstance(optimizer, GroupedOptimizer):
        return type(optimizer._template)
    return type(unwrap(optimizer))


def clone(
    optimizer: keras.optimizers.Optimizer,
    learning_rate: float | LearningRateSchedule | None = None,
) -> keras.optimizers.Optimizer:
    """Make an optimizer with the same settings, but perhaps the learning rate, and no state."""
    config = optimizer.get_config()
    if learning_rate is not None:
        # Set later, a schedule would leave a list of variables that TensorFlow cannot export.
        config["learning_rate"] = learning_rate
    fresh = type(optimizer).from_config(config)
    for attribute in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
        if hasattr(optimizer, attribute):
            setattr(fresh, attribute, getattr(optimizer, attribute))
    return fresh


def _parts(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    return optimizer.members if isinstance(optimizer, GroupedOptimizer) else [optimizer]


def _knows(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> bool:
    return any(known is variable for known in optimizer._trainable_variables)


def _source(
    previous: keras.optimizers.Optimizer | None, variable: keras.Variable
) -> keras.optimizers.Optimizer | None:
    if previous is None or not previous.built:
        return None
    return next((part for part in _parts(previous) if _knows(part, variable)), None)


def _age(optimizer: keras.optimizers.Optimizer | None) -> int:
    return 0 if optimizer is None else int(keras.ops.convert_to_numpy(optimizer.iterations))


def _slots(optimizer: keras.optimizers.Optimizer) -> dict[tuple[str, int], keras.Variable]:
    """State that belongs to one variable, by its name and the variable's id.

    Keras keeps such state in lists as long as the list of variables, one attribute a kind.
    """
    found = {}
    owners = [optimizer, *(part for part in _parts(optimizer) if part is not optimizer)]
    for owner in owners:
        variables = owner._trainable_variables
        for name, value in vars(owner).items():
            if name in ("_variables", "_trainable_variables") or not isinstance(value, list):
                continue
            if len(value) != len(variables):
                continue
            for variable, slot in zip(variables, value, strict=True):
                if isinstance(slot, keras.Variable):
                    found[name, id(variable)] = slot
    return found


def _copy_slots(
    previous: keras.optimizers.Optimizer | None,
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
) -> None:
    old = _slots(previous) if previous is not None and previous.built else {}
    new = _slots(optimizer)
    for key, slot in new.items():
        if key in old and tuple(old[key].shape) == tuple(slot.shape):
            slot.assign(old[key])
    if optimizer.use_ema:
        # A moving average that starts late starts at the variable, not at zero.
        for variable in variables:
            key = ("_model_variables_moving_average", id(variable))
            if key not in old:
                new[key].assign(variable)


def _copy_scalars(
    source: keras.optimizers.Optimizer | None, member: keras.optimizers.Optimizer
) -> None:
    """Copy state that is the group's, not a variable's, such as Nadam's product of momenta."""
    if source is None:
        return
    for old, new in zip(_scalars(source), _scalars(member), strict=True):
        new.assign(old)


def _scalars(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    slots = {id(slot) for slot in _slots(optimizer).values()}
    skipped = {id(optimizer._iterations), id(optimizer._learning_rate)}
    return [v for v in optimizer.variables if id(v) not in slots | skipped]
