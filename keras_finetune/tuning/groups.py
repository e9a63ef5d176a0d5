"""Learning rates by group of layers, resolved to exact variables."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

import keras
from keras.optimizers.schedules import LearningRateSchedule

from keras_finetune.tuning.selection import blocks, roles, select

LearningRate: TypeAlias = float | LearningRateSchedule | Mapping[str, float | LearningRateSchedule]


@dataclass(frozen=True)
class LearningRateGroup:
    """Variables that share a learning rate.

    Attributes:
        name: What the user called it, for summaries.
        variables: The trainable variables in it.
        scale: Factor on the optimizer's learning rate.
        schedule: A schedule of its own; `scale` then multiplies that.
    """

    name: str
    variables: tuple[keras.Variable, ...]
    scale: float = 1.0
    schedule: LearningRateSchedule | None = None


def learning_rate_groups(
    model: keras.Model, learning_rate: LearningRate, layer_decay: float | None = None
) -> tuple[float | LearningRateSchedule, list[LearningRateGroup]]:
    """Resolve learning rates to groups of the model's trainable variables.

    Keras's own `OptimizerMap` matches variable paths by regular expression, in which same-named
    layers collide and a key that matches nothing is silent. Here every variable is found through
    its layer, must be in exactly one group, and every key must match.

    Args:
        model: Any Keras model, built.
        learning_rate: A float or schedule for all, or a mapping from selections to floats or
            schedules. The key `"*"` means all that no other key names.
        layer_decay: Factor in (0, 1] by which each block learns slower than the one above it, as
            ELECTRA was fine-tuned (Clark et al. 2020, https://arxiv.org/abs/2003.10555); the head
            learns at the full rate, the embeddings slowest.

    Returns:
        The base learning rate (the largest float, or the schedule), and the groups.

    Raises:
        ValueError: A key matches nothing, a variable is in two groups or in none, or a number is
            out of range.

    Example:
        >>> import keras
        >>> model = keras.Sequential([
        ...     keras.Input((4,)), keras.layers.Dense(3, name="dense"), keras.layers.Dense(2)])
        >>> base, groups = learning_rate_groups(model, {"backbone": 1e-4, "head": 1e-3})
        >>> base, [(group.name, round(group.scale, 3)) for group in groups]
        (0.001, [('backbone', 0.1), ('head', 1.0)])
    """
    rates = checked_rates(learning_rate, layer_decay)
    floats = [rate for rate in rates.values() if not isinstance(rate, LearningRateSchedule)]
    base = max(floats) if floats else next(reversed(rates.values()))
    decays = _depth_factors(model, layer_decay)
    groups: dict[tuple[str, float], list[keras.Variable]] = {}
    for name, variables in _variables_by_key(model, rates).items():
        for variable in variables:
            groups.setdefault((name, decays.get(id(variable), 1.0)), []).append(variable)
    resolved = []
    for (name, decay), members in groups.items():
        rate = rates[name]
        own_schedule = rate if isinstance(rate, LearningRateSchedule) and rate is not base else None
        ratio = rate / base if not isinstance(rate, LearningRateSchedule) and base else 1.0
        label = name if decay == 1.0 else f"{name} x{decay:.3g}"
        resolved.append(LearningRateGroup(label, tuple(members), ratio * decay, own_schedule))
    return base, resolved


def checked_rates(
    learning_rate: LearningRate, layer_decay: float | None = None
) -> dict[str, float | LearningRateSchedule]:
    """Check learning rates as far as that goes without a model.

    Args:
        learning_rate: See `learning_rate_groups`.
        layer_decay: See `learning_rate_groups`.

    Returns:
        The rates by selection.

    Raises:
        ValueError: A number is out of range or none, or there is no rate.
    """
    if layer_decay is not None and not (_is_number(layer_decay) and 0 < layer_decay <= 1):
        raise ValueError(f"layer_decay must be in (0, 1]. Received: {layer_decay!r}")
    rates = dict(learning_rate) if isinstance(learning_rate, Mapping) else {"*": learning_rate}
    if not rates:
        raise ValueError(
            "learning_rate names no layers. Received: {}. Give a float, or a dict such as "
            '{"backbone": 2e-5, "head": 1e-3}.'
        )
    for name, rate in rates.items():
        if isinstance(rate, LearningRateSchedule):
            continue
        if not _is_number(rate) or not 0 <= rate < math.inf:
            raise ValueError(
                "A learning rate must be a float >= 0, not infinite, or a keras "
                f"LearningRateSchedule. Received for {name!r}: {rate!r}"
            )
        rates[name] = float(rate)  # Keras takes no int.
    return rates


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _variables_by_key(
    model: keras.Model, rates: Mapping[str, object]
) -> dict[str, list[keras.Variable]]:
    trainable = {id(variable): variable for variable in model.trainable_variables}
    owner: dict[int, str] = {}
    for name in (key for key in rates if key != "*"):
        for layer in select(model, name).values():
            for variable in layer.variables:
                other = owner.setdefault(id(variable), name)
                if other != name:
                    raise ValueError(
                        f"learning_rate names {variable.path!r} twice: by {other!r} and by "
                        f"{name!r}. Let each layer be matched by one key."
                    )
    rest = [variable for key, variable in trainable.items() if key not in owner]
    if rest and "*" not in rates:
        shown = ", ".join(variable.path for variable in rest[:5])
        raise ValueError(
            f"learning_rate names no rate for {len(rest)} trainable variable(s): {shown}"
            f"{', ...' if len(rest) > 5 else ''}. Name their layers, freeze them, or add the key "
            '"*" for all others.'
        )
    found: dict[str, list[keras.Variable]] = {name: [] for name in rates}
    for key, variable in trainable.items():
        found[owner.get(key, "*")].append(variable)
    return found


def _depth_factors(model: keras.Model, layer_decay: float | None) -> dict[int, float]:
    """The decay of every variable of the backbone, by id."""
    if layer_decay is None:
        return {}
    stem, above = blocks(roles(model)["backbone"])
    factors = {}
    for depth, block in enumerate([*reversed(above), stem], start=1):
        for layer in block.values():
            for variable in layer.variables:
                factors[id(variable)] = layer_decay**depth
    return factors
