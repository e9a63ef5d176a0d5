"""Staged tuning: which layers train when, as plain data that can be printed and edited."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from keras_finetune.models.arguments import check_positive
from keras_finetune.tuning.argument_checks import check_count
from keras_finetune.tuning.freezing import freeze, unfreeze
from keras_finetune.tuning.groups import LearningRate, checked_rates
from keras_finetune.tuning.selection import blocks, roles, select


@dataclass(frozen=True)
class Stage:
    """One stage of training: these layers train, all others are frozen.

    Attributes:
        name: What to call it in printed output.
        trainable: Selections (roles, globs or layer paths) of what trains.
        epochs: How many epochs.
        learning_rate: The learning rate from this stage on; None keeps the one in force.

    Example:
        >>> Stage("head", ("head",), epochs=2)
        Stage(name='head', trainable=('head',), epochs=2, learning_rate=None)
    """

    name: str
    trainable: tuple[str, ...]
    epochs: int = 1
    learning_rate: LearningRate | None = None

    def __post_init__(self) -> None:
        if isinstance(self.trainable, str):
            object.__setattr__(self, "trainable", (self.trainable,))
        if not self.trainable:
            raise ValueError(
                f'Stage {self.name!r} trains nothing. Give selections, for example ("head",).'
            )
        check_count(epochs=self.epochs)
        if self.learning_rate is not None:
            checked_rates(self.learning_rate)

    def apply(self, model: keras.Model) -> None:
        """Let exactly the layers of this stage train.

        Args:
            model: The model that the stage was made for.
        """
        chosen = select(model, self.trainable)
        freeze(model, lambda layer: True)
        unfreeze(model, list(chosen.values()))


def checked_stages(model: keras.Model, stages: Any) -> list[Stage]:
    """Refuse what is no list of stages, and stages that name layers which the model has not.

    Args:
        model: The model that they are for.
        stages: What was given as stages.

    Returns:
        The stages.

    Raises:
        ValueError: With what was received.
    """
    listed = list(stages) if isinstance(stages, Iterable) else []
    if not listed or not all(isinstance(x, Stage) for x in listed):
        raise ValueError(
            "Stages are a list, from gradual_unfreezing(model) or made by hand: "
            f'[Stage("head", ("head",), epochs=2), ...]. Received: {stages!r:.200}'
        )
    for stage in listed:
        rates = stage.learning_rate if isinstance(stage.learning_rate, Mapping) else {}
        for selection in (stage.trainable, *(key for key in rates if key != "*")):
            select(model, selection)
    return listed


def gradual_unfreezing(
    model: keras.Model,
    *,
    epochs: int = 1,
    final_epochs: int | None = None,
    learning_rate: LearningRate | None = None,
    blocks_per_stage: int = 1,
) -> list[Stage]:
    """Unfreeze from the head down, some blocks more in each stage.

    From ULMFiT (Howard and Ruder 2018, https://arxiv.org/abs/1801.06146): the last layers hold what
    is least general, and training all at once forgets what the lower ones know.

    Args:
        model: A Keras model with a backbone and a head.
        epochs: Epochs of each stage.
        final_epochs: Epochs of the last stage, in which everything trains; `epochs` if None.
        learning_rate: The learning rate of all stages, as `FineTuner.compile` takes it.
        blocks_per_stage: How many blocks each stage adds.

    Returns:
        The stages: the head; the head and the top blocks; ...; everything.

    Example:
        >>> import keras
        >>> model = keras.Sequential([
        ...     keras.Input((None,)), keras.layers.Embedding(9, 4, name="embedding"),
        ...     keras.layers.LSTM(4, name="lstm"), keras.layers.Dense(2, name="dense")])
        >>> for stage in gradual_unfreezing(model):
        ...     print(stage.name, stage.trainable)
        head ('dense',)
        top 1 ('dense', 'lstm')
        all ('dense', 'lstm', 'embedding')
    """
    check_count(blocks_per_stage=blocks_per_stage)
    if final_epochs is not None:
        check_count(final_epochs=final_epochs)
    found = roles(model)
    stem, above = blocks(found["backbone"])
    trainable = list(found["head"])
    stages = [Stage("head", tuple(trainable), epochs, learning_rate)] if trainable else []
    waiting = above[::-1]
    count = 0
    while waiting:
        for block in waiting[:blocks_per_stage]:
            trainable += block
            count += 1
        waiting = waiting[blocks_per_stage:]
        stages.append(Stage(f"top {count}", tuple(trainable), epochs, learning_rate))
    if stem:
        stages.append(Stage("all", (*trainable, *stem), epochs, learning_rate))
    if not stages:
        raise ValueError("The model has no layer with weights, so that nothing can be unfrozen.")
    last = stages.pop()
    return [*stages, Stage("all", last.trainable, final_epochs or epochs, learning_rate)]


def linear_probe_then_tune(
    model: keras.Model,
    *,
    probe_epochs: int = 1,
    epochs: int = 2,
    probe_learning_rate: float = 1e-3,
    learning_rate: LearningRate | None = None,
) -> list[Stage]:
    """Train the head on frozen features first, then everything.

    A fresh head sends large, random gradients into a pretrained backbone; a trained one does not
    (LP-FT: Kumar et al. 2022, https://arxiv.org/abs/2202.10054).

    Args:
        model: A Keras model with a backbone and a head.
        probe_epochs: Epochs with the backbone frozen.
        epochs: Epochs with everything trainable.
        probe_learning_rate: The head's learning rate in the first stage.
        learning_rate: The learning rate of the second stage, as `FineTuner.compile` takes it; by
            default a tenth of the probe's for the head and a fiftieth for the backbone.

    Returns:
        The two stages.
    """
    check_positive(probe_epochs=probe_epochs)
    found = roles(model)
    if not found["head"] or not found["backbone"]:
        raise ValueError(
            "linear_probe_then_tune needs a head and a backbone with weights. Build the model with "
            'a head of this library, or give the head\'s layers names that start with "head_".'
        )
    rates: LearningRate = learning_rate or {
        "backbone": probe_learning_rate / 50,
        "head": probe_learning_rate / 10,
    }
    head, backbone = tuple(found["head"]), tuple(found["backbone"])
    probe_rate: Mapping[str, float] = {"*": probe_learning_rate}
    return [
        Stage("linear probe", head, probe_epochs, probe_rate),
        Stage("fine-tune", (*head, *backbone), epochs, rates),
    ]
