"""Learning-rate schedules whose length is that of the `fit` they are made for."""

import math
from numbers import Real
from typing import Any

import keras
from keras import ops

from keras_finetune.suggest import did_you_mean

DECAYS = ("constant", "cosine", "linear")


@keras.saving.register_keras_serializable(package="keras_finetune")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rise linearly to the learning rate, then decay to zero.

    The shape that BERT was fine-tuned with (Devlin et al. 2019,
    https://arxiv.org/abs/1810.04805). `FineTuner.compile(schedule="linear", warmup=0.1)` makes one
    for each `fit`, since only `fit` knows the number of steps.

    Args:
        learning_rate: float, the rate after the warm-up.
        total_steps: int, steps (batches) until the rate is zero.
        warmup_steps: int, steps of the rise.
        decay: `"linear"`, `"cosine"` or `"constant"`.

    Example:
        >>> schedule = WarmupDecay(1.0, total_steps=10, warmup_steps=2)
        >>> [round(float(schedule(step)), 3) for step in (0, 1, 2, 6, 10)]
        [0.5, 1.0, 1.0, 0.5, 0.0]
    """

    def __init__(
        self,
        learning_rate: float,
        total_steps: int,
        warmup_steps: int = 0,
        decay: str = "linear",
        name: str = "warmup_decay",
    ) -> None:
        super().__init__()
        if decay not in DECAYS:
            raise ValueError(
                f"decay must be one of {DECAYS}. Received: {decay!r}.{did_you_mean(decay, DECAYS)}"
            )
        if not 0 <= warmup_steps <= total_steps or total_steps < 1:
            raise ValueError(
                "total_steps must be at least 1 and warmup_steps from 0 to total_steps. "
                f"Received: total_steps={total_steps}, warmup_steps={warmup_steps}"
            )
        self.learning_rate = float(learning_rate)
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.decay = decay
        self.name = name

    def __call__(self, step: Any) -> Any:
        """Return the learning rate at a step.

        Args:
            step: int or scalar tensor, batches so far.

        Returns:
            float32 scalar tensor.
        """
        step = ops.cast(step, "float32")
        rise = (step + 1) / max(self.warmup_steps, 1)
        left = max(self.total_steps - self.warmup_steps, 1)
        progress = ops.clip((step - self.warmup_steps) / left, 0.0, 1.0)
        if self.decay == "linear":
            fall = 1.0 - progress
        elif self.decay == "cosine":
            fall = 0.5 * (1.0 + ops.cos(math.pi * progress))
        else:
            fall = ops.ones_like(progress)
        return self.learning_rate * ops.where(step < self.warmup_steps, rise, fall)

    def get_config(self) -> dict[str, Any]:
        """Return what the schedule is made of."""
        return {
            "learning_rate": self.learning_rate,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "decay": self.decay,
            "name": self.name,
        }


def check_warmup(warmup: Any) -> None:
    """Refuse a warm-up that is no number, or below zero."""
    if not isinstance(warmup, Real) or isinstance(warmup, bool) or not float(warmup) >= 0:
        raise ValueError(f"warmup must be >= 0: a share below 1, or steps. Received: {warmup!r}")


def warmup_steps(warmup: float, total_steps: int) -> int:
    """Turn a share of the steps (a float below 1) or a number of steps into a number of steps.

    Example:
        >>> warmup_steps(0.1, 200), warmup_steps(30, 200)
        (20, 30)
    """
    check_warmup(warmup)
    steps = round(warmup * total_steps) if warmup < 1 else int(warmup)
    if steps > total_steps:
        raise ValueError(
            f"warmup={warmup!r} is more than the {total_steps} steps of this fit. Give a share "
            "below 1, for example warmup=0.1."
        )
    return steps
