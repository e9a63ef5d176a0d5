"""Compiling a model for what is trainable now, as late as `fit` and only where needed."""

from collections.abc import Mapping
from typing import Any

import keras
from keras.optimizers.schedules import LearningRateSchedule

from keras_finetune.tuning.groups import LearningRateGroup
from keras_finetune.tuning.optimizer_state import unwrap
from keras_finetune.tuning.recipe import Recipe, make_recipe


class Compilation:
    """A model's compiled state, and the recipe that it is to follow.

    Args:
        model: The model.

    Attributes:
        recipe: How to train; None until something says so.
    """

    def __init__(self, model: keras.Model) -> None:
        self.recipe: Recipe | None = None
        self._model = model
        self._optimizer: keras.optimizers.Optimizer | None = None
        self._compiled: tuple[Recipe | None, tuple[object, ...]] = (None, ())

    def current_recipe(self) -> Recipe:
        """Return the recipe, else what the model itself is compiled with."""
        optimizer = getattr(self._model, "optimizer", None)
        if self.recipe is None and optimizer is None:
            raise ValueError("Nothing says how to train. Call compile(...) before fit.")
        if self.recipe is None:
            self.recipe = make_recipe(
                unwrap(optimizer), None, compile_args=compiled_with(self._model)
            )
            self._optimizer = optimizer
            self._compiled = (self.recipe, ())
        return self.recipe

    def learning_rates(self) -> tuple[float | LearningRateSchedule | None, list[LearningRateGroup]]:
        """Return the base rate in force and the groups of what is trainable now."""
        if self.recipe is None or not self._model.trainable_variables:
            return None, []
        base, groups = self.recipe.groups(self._model)
        reduced = self._reduced_rate(self.recipe)
        return (base if reduced is None else reduced), groups

    def prepare(self, total_steps: int | None) -> None:
        """Compile the model for what is trainable now, unless it is so compiled already.

        Args:
            total_steps: Steps of the coming fit, or None if not known.

        Raises:
            ValueError: Nothing is trainable, or a schedule needs the number of steps.
        """
        recipe, model = self.current_recipe(), self._model
        if not model.trainable_variables:
            raise ValueError(
                "Nothing is trainable, so that fit would change nothing. Unfreeze something "
                'first, for example unfreeze("head").'
            )
        if recipe.schedule is not None and total_steps is None:
            raise ValueError(
                f"schedule={recipe.schedule!r} needs the number of steps, which this data does not "
                "say. Give fit(..., steps_per_epoch=...)."
            )
        signature = _signature(model)
        unchanged = self._compiled == (recipe, signature) and model.optimizer is self._optimizer
        if unchanged and recipe.schedule is None:
            return
        previous = self._optimizer
        seen = previous is not None and recipe is self._compiled[0]
        optimizer = recipe.make_optimizer(
            model,
            total_steps=total_steps,
            previous=previous,
            learning_rate=self._reduced_rate(recipe),
            step=_steps_of(previous) if seen else 0,
        )
        model.compile(optimizer=optimizer, **recipe.compile_args)
        _reset_metrics(recipe.compile_args)
        self._optimizer = model.optimizer
        self._compiled = (recipe, signature)

    def forget(self) -> None:
        """Compile at the next fit in any case.

        Something else compiled the model meanwhile, or a fit failed: a step that could not be
        traced leaves behind a function that fails at the next call, too.
        """
        self._compiled = (self._compiled[0], ())

    def _reduced_rate(self, recipe: Recipe) -> float | None:
        """The learning rate that callbacks left behind, while the recipe is the same."""
        if self._optimizer is None or recipe is not self._compiled[0]:
            return None
        optimizer = unwrap(self._optimizer)
        if isinstance(optimizer._learning_rate, LearningRateSchedule):
            return None
        return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def compiled_with(model: keras.Model) -> dict[str, Any]:
    """Return the arguments that a model was compiled with, but for its optimizer."""
    kept = getattr(model, "_compile_config", None)
    if kept is None or not model.compiled:
        return {}
    return {name: value for name, value in kept.config.items() if name != "optimizer"}


def _reset_metrics(compile_args: Mapping[str, Any]) -> None:
    """Let metrics begin anew that may have counted before.

    Keras takes up a metric object as it is, and with TensorFlow first resets it in the second epoch
    after `compile`. One that has made no state yet may not know how to.
    """
    for name in ("metrics", "weighted_metrics"):
        for metric in keras.tree.flatten(compile_args.get(name)):
            if isinstance(metric, keras.metrics.Metric) and metric.variables:
                metric.reset_state()


def _signature(model: keras.Model) -> tuple[object, ...]:
    """What changes when what trains changes.

    The flags are in it beside the variables, since batch normalization in a frozen layer behaves
    otherwise even where it has no variables to train; so are the types that layers compute in.
    """
    variables = tuple(id(variable) for variable in model.trainable_variables)
    layers = model._flatten_layers()
    return (*variables, *((layer.trainable, layer.compute_dtype) for layer in layers))


def _steps_of(optimizer: Any) -> int:
    return int(keras.ops.convert_to_numpy(unwrap(optimizer).iterations))
