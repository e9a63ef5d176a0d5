"""A table of what trains and how fast."""

from collections.abc import Sequence

import keras
from keras.optimizers.schedules import LearningRateSchedule
from rich.markup import escape
from rich.table import Table

from keras_finetune.tuning.groups import LearningRateGroup
from keras_finetune.tuning.selection import _units, not_built, roles


def summary_table(
    model: keras.Model,
    learning_rate: float | LearningRateSchedule | None = None,
    groups: Sequence[LearningRateGroup] = (),
) -> Table:
    """List the layers with weights: role, parameters, trainable or not, learning rate.

    Args:
        model: Any built Keras model.
        learning_rate: The base rate.
        groups: The learning-rate groups of the trainable variables.

    Returns:
        A rich table; `rich.print` shows it.

    Raises:
        ValueError: The model is not built.
    """
    if not model.built:
        raise ValueError(f"There are no layers to list yet: {not_built(model)}")
    found = roles(model)
    rate_of = {id(v): group for group in groups for v in group.variables}
    table = Table(title=escape(model.name))
    table.add_column("Layer")
    table.add_column("Role")
    table.add_column("Parameters", justify="right")
    table.add_column("Trainable", justify="right")
    table.add_column("Learning rate", justify="right")
    for path, layer in _units(model).items():
        role = "head" if path in found["head"] else "backbone"
        trainable = layer.trainable_variables
        rates = {_rate(rate_of.get(id(variable)), learning_rate) for variable in trainable}
        table.add_row(
            escape(path),
            "embeddings" if path in found["embeddings"] else role,
            f"{layer.count_params():,}",
            f"{sum(_size(v) for v in trainable):,}" if trainable else "no",
            ", ".join(sorted(rates)),
        )
    total = model.count_params()
    training = sum(_size(variable) for variable in model.trainable_variables)
    share = training / total if total else 0.0
    table.add_section()
    table.add_row("total", "", f"{total:,}", f"{training:,} ({share:.1%})", "")
    return table


def _size(variable: keras.Variable) -> int:
    size = 1
    for dimension in variable.shape:
        size *= dimension
    return size


def _rate(
    group: LearningRateGroup | None, learning_rate: float | LearningRateSchedule | None
) -> str:
    if group is None or learning_rate is None:
        return ""
    rate = group.schedule or learning_rate
    if isinstance(rate, LearningRateSchedule):
        factor = "" if group.scale == 1.0 else f" x{group.scale:.3g}"
        return f"{type(rate).__name__}{factor}"
    return f"{float(rate) * group.scale:.3g}"
