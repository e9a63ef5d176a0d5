"""What `compile` was told, kept until `fit` knows what trains."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
from keras.optimizers.schedules import LearningRateSchedule

from keras_finetune.models.arguments import check_flag
from keras_finetune.suggest import did_you_mean
from keras_finetune.tuning.grouped_optimizer import GroupedOptimizer
from keras_finetune.tuning.groups import (
    LearningRate,
    LearningRateGroup,
    checked_rates,
    learning_rate_groups,
)
from keras_finetune.tuning.optimizer_state import clone, make_optimizer, unwrap
from keras_finetune.tuning.schedules import DECAYS, WarmupDecay, check_warmup, warmup_steps

# Decaying these pulls them away from where normalization needs them (Devlin et al. 2019, A.2).
_NO_WEIGHT_DECAY = ["bias", "gamma", "beta", "scale"]


@dataclass(frozen=True)
class Recipe:
    """An optimizer's method, learning rates and Keras's compile arguments.

    Attributes:
        optimizer: A Keras optimizer without state, which says the method and its settings.
        learning_rate: A float, a schedule, or a mapping from selections to either.
        layer_decay: Factor by which each block learns slower than the one above it.
        schedule: None, `"constant"`, `"linear"` or `"cosine"`: the shape over one fit.
        warmup: Share of the steps of a fit (a float below 1), or steps, in which the rate rises.
        gradient_checkpointing: Whether blocks are computed again for their gradients.
        compile_args: Further arguments of `keras.Model.compile`.
    """

    optimizer: keras.optimizers.Optimizer
    learning_rate: LearningRate
    layer_decay: float | None = None
    schedule: str | None = None
    warmup: float = 0
    gradient_checkpointing: bool = False
    compile_args: Mapping[str, Any] = field(default_factory=dict)

    def groups(
        self, model: keras.Model
    ) -> tuple[float | LearningRateSchedule, list[LearningRateGroup]]:
        """Resolve the learning rates to the variables that are trainable now."""
        return learning_rate_groups(model, self.learning_rate, self.layer_decay)

    def make_optimizer(
        self,
        model: keras.Model,
        *,
        total_steps: int | None = None,
        previous: keras.optimizers.Optimizer | None = None,
        learning_rate: float | None = None,
        step: int = 0,
    ) -> keras.optimizers.Optimizer:
        """Make the optimizer for what is trainable now.

        Args:
            model: The model to train, built.
            total_steps: Steps of the coming fit; needed by a named schedule.
            previous: The optimizer used so far, whose state is carried over.
            learning_rate: A base rate that a callback set, in place of the recipe's.
            step: Batches that a schedule of the user's own has seen.

        Returns:
            A built Keras optimizer.
        """
        base, groups = self.groups(model)
        if learning_rate is not None and not isinstance(base, LearningRateSchedule):
            base = learning_rate
        if self.schedule is not None and total_steps is not None:
            warmup = warmup_steps(self.warmup, total_steps)
            base = WarmupDecay(base, total_steps, warmup, self.schedule)
            step = 0
        variables = model.trainable_variables
        return make_optimizer(self.optimizer, base, groups, variables, previous=previous, step=step)


def make_recipe(
    optimizer: "str | keras.optimizers.Optimizer",
    learning_rate: LearningRate | None,
    *,
    layer_decay: float | None = None,
    schedule: str | None = None,
    warmup: float = 0,
    gradient_checkpointing: bool = False,
    compile_args: Mapping[str, Any],
) -> Recipe:
    """Check what `compile` was told.

    Args:
        optimizer: A Keras optimizer by name, or one with settings; it is copied.
        learning_rate: See `Recipe`; None keeps the optimizer's own.
        layer_decay: See `Recipe`.
        schedule: See `Recipe`.
        warmup: See `Recipe`.
        gradient_checkpointing: See `Recipe`.
        compile_args: See `Recipe`.

    Raises:
        ValueError: The settings contradict each other or are out of range.
    """
    if schedule is not None and schedule not in DECAYS:
        raise ValueError(
            f"schedule must be one of {DECAYS}, or None. Received: {schedule!r}."
            f"{did_you_mean(str(schedule), DECAYS)} A keras LearningRateSchedule goes in as "
            "learning_rate."
        )
    check_flag(gradient_checkpointing=gradient_checkpointing)
    template = _template(optimizer)
    if learning_rate is None:
        own = template._learning_rate
        if not isinstance(own, LearningRateSchedule):
            own = float(keras.ops.convert_to_numpy(own))
        learning_rate = own
    rates = checked_rates(learning_rate, layer_decay).values()
    if schedule is not None and any(isinstance(rate, LearningRateSchedule) for rate in rates):
        raise ValueError(
            f"schedule={schedule!r} and a LearningRateSchedule as learning_rate say two things. "
            "Give a float learning_rate with schedule, or the LearningRateSchedule alone."
        )
    check_warmup(warmup)
    if warmup and schedule is None:
        schedule = "constant"
    return Recipe(
        template,
        learning_rate,
        layer_decay,
        schedule,
        warmup,
        gradient_checkpointing,
        dict(compile_args),
    )


def _template(optimizer: "str | keras.optimizers.Optimizer") -> keras.optimizers.Optimizer:
    if isinstance(optimizer, GroupedOptimizer):
        raise ValueError(
            "A GroupedOptimizer holds groups of one model's variables at one time, as in a "
            "checkpoint of a tuned model. Call FineTuner.compile with an optimizer's name and "
            "learning_rate={...}, which groups what is trainable."
        )
    if isinstance(optimizer, keras.optimizers.Optimizer):
        # Where the loss is to be scaled, Keras's `compile` wraps the optimizer again.
        return clone(unwrap(optimizer))
    if not isinstance(optimizer, str):
        raise ValueError(
            "optimizer must be the name of a Keras optimizer or a keras.optimizers.Optimizer. "
            f"Received: {optimizer!r}"
        )
    # keras.optimizers.get does not know all of them by name (Lamb in 3.15).
    known = {
        name.lower(): value
        for name, value in vars(keras.optimizers).items()
        if isinstance(value, type) and issubclass(value, keras.optimizers.Optimizer)
    }
    if optimizer.lower() not in known:
        raise ValueError(
            f"Keras has no optimizer {optimizer!r}.{did_you_mean(optimizer.lower(), known)}"
        )
    made = known[optimizer.lower()]()
    if made.weight_decay:
        made.exclude_from_weight_decay(var_names=_NO_WEIGHT_DECAY)
    return made
