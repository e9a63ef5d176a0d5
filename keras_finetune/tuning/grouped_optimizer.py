"""One optimizer for groups of variables, each with a learning rate and an age of its own."""

from collections.abc import Sequence
from typing import Any

import keras
from keras.optimizers.schedules import LearningRateSchedule

# What a Keras optimizer does to all gradients at once stays with the whole.
_OF_THE_WHOLE = (
    "clipnorm",
    "clipvalue",
    "ema_momentum",
    "ema_overwrite_frequency",
    "global_clipnorm",
    "gradient_accumulation_steps",
    "learning_rate",
    "loss_scale_factor",
    "use_ema",
)


@keras.saving.register_keras_serializable(package="keras_finetune")
class GroupedOptimizer(keras.optimizers.Optimizer):
    """Apply copies of a Keras optimizer to groups of variables.

    Unlike `keras.optimizers.MultiOptimizer` it has one `learning_rate`, which Keras's schedules and
    callbacks set as on any optimizer, and every group follows it by its own factor; it clips by the
    norm over all groups; and groups are given as variables, not as patterns. A group counts its own
    updates, so that Adam's bias correction is right for variables that begin to train late.

    Args:
        optimizer: A Keras optimizer that says the method, its settings and the learning rate.
        groups: A sequence of dicts: `indices`, the positions of the group's variables in the list
            that the optimizer is built with; `scale`, the factor on the learning rate; `schedule`,
            optional, a learning-rate schedule instead of the common rate.

    Example:
        >>> import keras
        >>> optimizer = GroupedOptimizer(
        ...     keras.optimizers.SGD(1.0), [{"indices": [0]}, {"indices": [1], "scale": 0.1}])
        >>> a, b = keras.Variable([1.0]), keras.Variable([1.0])
        >>> optimizer.apply([keras.ops.ones(1), keras.ops.ones(1)], [a, b])
        >>> float(a[0]), round(float(b[0]), 3)
        (0.0, 0.9)
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        groups: Sequence[dict[str, Any]],
        name: str | None = None,
    ) -> None:
        config = optimizer.get_config()
        whole = {key: config[key] for key in _OF_THE_WHOLE if key in config}
        whole["learning_rate"] = _learning_rate_of(optimizer)
        super().__init__(name=name or f"grouped_{optimizer.name}", **whole)
        self._template = optimizer
        self._groups: list[dict[str, Any]] = [
            {
                "indices": list(group["indices"]),
                "scale": float(group.get("scale", 1.0)),
                "schedule": group.get("schedule"),
            }
            for group in groups
        ]
        self._members = [self._make_member(config, group) for group in self._groups]

    @property
    def members(self) -> list[keras.optimizers.Optimizer]:
        """The optimizer of each group, in the order of `groups`."""
        return list(self._members)

    @property
    def variables(self) -> list[keras.Variable]:
        """The state of the whole and of every group."""
        return [*self._variables, *(v for member in self._members for v in member.variables)]

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Create the state of every group.

        Args:
            variables: The trainable variables, which the groups' indices count.
        """
        if self.built:
            return
        covered = sorted(index for group in self._groups for index in group["indices"])
        if covered != list(range(len(variables))):
            raise ValueError(
                f"The groups must hold each of the {len(variables)} variables once. "
                f"Received the indices {covered}. If this is a saved model, other variables were "
                "trainable when it was saved: load it with compile=False, and compile it again."
            )
        super().build(variables)
        for group, member in zip(self._groups, self._members, strict=True):
            member.build([variables[index] for index in group["indices"]])

    def _backend_update_step(
        self, grads: Any, trainable_variables: Any, learning_rate: Any
    ) -> None:
        # Called by Keras after accumulation and clipping; each member then decays its weights and
        # updates at its own rate.
        by_variable = {
            self._get_variable_index(variable): (gradient, variable)
            for gradient, variable in zip(grads, trainable_variables, strict=True)
        }
        for group, member in zip(self._groups, self._members, strict=True):
            pairs = [by_variable[index] for index in group["indices"] if index in by_variable]
            if pairs:
                gradients, members_variables = zip(*pairs, strict=True)
                member.apply(list(gradients), list(members_variables))

    def _apply_weight_decay(self, variables: Any) -> None:
        """Leave weight decay to the members, which know their learning rates."""

    def _make_member(
        self, config: dict[str, Any], group: dict[str, Any]
    ) -> keras.optimizers.Optimizer:
        inner = {key: value for key, value in config.items() if key not in _OF_THE_WHOLE}
        inner.pop("name", None)
        # Given later, it would leave TensorFlow's list of variables one that cannot be exported.
        rate = _GroupRate(self, group["scale"], group["schedule"])
        member = type(self._template).from_config({**inner, "learning_rate": rate})
        for attribute in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
            if hasattr(self._template, attribute):
                setattr(member, attribute, getattr(self._template, attribute))
        return member

    def get_config(self) -> dict[str, Any]:
        """Return the method and the groups."""
        serialize = keras.saving.serialize_keras_object
        groups = [{**g, "schedule": serialize(g["schedule"])} for g in self._groups]
        return {
            "optimizer": serialize(self._template),
            "groups": groups,
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "GroupedOptimizer":
        """Make an optimizer from what `get_config` returned."""
        load = keras.saving.deserialize_keras_object
        groups = [
            {**group, "schedule": load(group["schedule"], custom_objects=custom_objects)}
            for group in config["groups"]
        ]
        return cls(load(config["optimizer"], custom_objects=custom_objects), groups, config["name"])


class _GroupRate(LearningRateSchedule):
    """A group's learning rate: its factor times the common rate, or times its own schedule."""

    def __init__(
        self, whole: GroupedOptimizer, scale: float, schedule: LearningRateSchedule | None
    ) -> None:
        super().__init__()
        self._whole = whole
        self._scale = scale
        self._schedule = schedule

    def __call__(self, step: Any) -> Any:
        if self._schedule is not None:
            return self._schedule(self._whole._iterations) * self._scale
        rate = self._whole.learning_rate
        return keras.ops.convert_to_tensor(rate) * self._scale

    def get_config(self) -> dict[str, Any]:
        return {"scale": self._scale}


def _learning_rate_of(optimizer: keras.optimizers.Optimizer) -> float | LearningRateSchedule:
    rate = optimizer._learning_rate
    return rate if isinstance(rate, LearningRateSchedule) or callable(rate) else float(rate)
