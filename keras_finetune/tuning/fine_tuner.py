"""`FineTuner`: freeze, unfreeze, compile, fit and evaluate any Keras model."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import rich

from keras_finetune.models.arguments import check_flag
from keras_finetune.tuning.argument_checks import (
    check_arguments,
    check_count,
    check_ends,
    check_fit_numbers,
    check_loss_and_metrics,
    check_read_again,
    checked_callbacks,
)
from keras_finetune.tuning.building import build
from keras_finetune.tuning.checks import check_fit_data, check_side
from keras_finetune.tuning.class_weight import only_output, resolve_class_weight
from keras_finetune.tuning.compilation import Compilation, compiled_with
from keras_finetune.tuning.data_kinds import FitData, as_keras_reads, comes_in_order, count_steps
from keras_finetune.tuning.early_stopping import early_stopping_callbacks
from keras_finetune.tuning.empty_guard import refuse_empty
from keras_finetune.tuning.estimate import Estimate, estimate_stages
from keras_finetune.tuning.freezing import freeze, unfreeze
from keras_finetune.tuning.frozen_prefix import CutFunctions
from keras_finetune.tuning.groups import LearningRate
from keras_finetune.tuning.history import EpochCount
from keras_finetune.tuning.input_checks import needs_loss
from keras_finetune.tuning.kept_values import values_kept
from keras_finetune.tuning.kernels import predictions_worth_compiling
from keras_finetune.tuning.label_checks import check_loss, num_classes
from keras_finetune.tuning.precision import set_precision
from keras_finetune.tuning.prefix_cache import PrefixCache
from keras_finetune.tuning.prefix_choice import (
    CacheFrozen,
    check_cache_frozen,
    folder_of,
    frozen_once,
)
from keras_finetune.tuning.prefix_cut import find_cut
from keras_finetune.tuning.preprocessing import lists_as_arrays, without_preprocessor
from keras_finetune.tuning.recipe import make_recipe
from keras_finetune.tuning.report import FitReport
from keras_finetune.tuning.saving import save_without_optimizer
from keras_finetune.tuning.selection import Selection
from keras_finetune.tuning.stages import Stage, checked_stages
from keras_finetune.tuning.summary import summary_table
from keras_finetune.tuning.training import train


class FineTuner:
    """Freeze, unfreeze, compile, fit and evaluate a Keras model.

    What is trainable when `fit` starts is what trains. Keras alone ignores a change of `trainable`
    after `compile`, and a recompiled optimizer forgets its state; here `compile` only notes what is
    wanted, `fit` makes the optimizer for what is trainable then, and the moments of every variable
    that goes on training are carried over.

    Args:
        model: Any Keras model: Functional, Sequential or subclassed; it stays an ordinary model.

    Attributes:
        model: The model.
        history: Metrics of every epoch over all calls of `fit`, a dict of lists.

    Example:
        >>> import keras, numpy as np
        >>> import keras_finetune as kft
        >>> model = keras.Sequential([
        ...     keras.Input((8,)),
        ...     keras.layers.Dense(16, activation="relu", name="features"),
        ...     keras.layers.Dense(3, name="logits"),
        ... ])
        >>> x, y = np.random.rand(64, 8), np.arange(64) % 3
        >>> tuner = kft.FineTuner(model)
        >>> tuner.compile(
        ...     "adamw",
        ...     loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ...     metrics=["accuracy"],
        ...     learning_rate={"backbone": 1e-4, "head": 1e-3},
        ... )
        >>> tuner.freeze("backbone")
        >>> _ = tuner.fit(x, y, epochs=1, verbose=0)
        >>> tuner.unfreeze("backbone", top=1)
        >>> _ = tuner.fit(x, y, epochs=1, verbose=0)
        >>> sorted(tuner.evaluate(x, y, verbose=0))
        ['accuracy', 'loss']
    """

    def __init__(self, model: keras.Model) -> None:
        if not isinstance(model, keras.Model):
            raise ValueError(
                f"FineTuner wraps a keras.Model. Received: {model!r} of type {type(model).__name__}"
            )
        self.model = model
        self.history: dict[str, list[float]] = {}
        self._epoch_count = EpochCount()
        self._compilation = Compilation(model)
        self._fitting = False
        self._in_stages = False
        self._cache: PrefixCache | None = None
        self._cut_functions = CutFunctions()
        self._report: FitReport | None = None

    def compile(
        self,
        optimizer: "str | keras.optimizers.Optimizer" = "adamw",
        loss: Any = None,
        *,
        metrics: Any = None,
        learning_rate: LearningRate | None = None,
        layer_decay: float | None = None,
        schedule: str | None = None,
        warmup: float = 0,
        precision: str | None = None,
        gradient_checkpointing: bool = False,
        **compile_args: Any,
    ) -> None:
        """Note how to train; `fit` makes what it needs.

        Args:
            optimizer: A Keras optimizer by name or instance. An instance is copied with all its
                settings (`gradient_accumulation_steps`, `global_clipnorm`, ...). By name, biases
                and normalization scales are left out of weight decay.
            loss: Any Keras loss; None keeps the one that the model is compiled with, which is the
                task's for models built by `keras_finetune.tasks`.
            metrics: Any Keras metrics; None keeps those that the model is compiled with.
            learning_rate: A float, a Keras `LearningRateSchedule`, or a dict from selections to
                either, for example `{"backbone": 2e-5, "head": 1e-3}`; the key `"*"` stands for all
                other layers. None keeps the optimizer's own.
            layer_decay: Each block learns slower than the one above it by this factor.
            schedule: `"linear"`, `"cosine"` or `"constant"`: from the learning rate to zero over
                each `fit`.
            warmup: Share of the steps of a fit (below 1), or number of steps, in which the rate
                rises from zero.
            precision: `"mixed_bfloat16"` computes in bfloat16, with float32 weights and outputs:
                much faster where the machine has instructions for it; `"auto"` does so there only.
                None leaves the model as it is.
            gradient_checkpointing: Keep only the inputs of each block for the gradients, and
                compute what is inside again: less memory, up to a third more time.
            **compile_args: Further arguments of `keras.Model.compile`.
        """
        self._refuse_while_fitting("compile")
        check_arguments(self.compile, self.model.compile, compile_args, (self.fit, self.model.fit))
        of_the_model = compiled_with(self.model)
        given = {"loss": loss, "metrics": metrics, **compile_args}
        compile_args = of_the_model | {k: v for k, v in given.items() if v is not None}
        if compile_args.get("loss") is None and needs_loss(self.model):
            raise ValueError(
                "The model has no loss. Give one: compile(loss=...), or build the model with "
                "keras_finetune.tasks, which knows its loss."
            )
        check_count(steps_per_execution=compile_args.get("steps_per_execution", 1))
        check_loss_and_metrics(self.model, compile_args)
        recipe = make_recipe(
            optimizer,
            learning_rate,
            layer_decay=layer_decay,
            schedule=schedule,
            warmup=warmup,
            gradient_checkpointing=gradient_checkpointing,
            compile_args=compile_args,
        )
        check_loss(self.model, compile_args.get("loss"))
        if precision is not None:
            set_precision(self.model, precision)
        if self.model.built and self.model.trainable_variables:
            recipe.groups(self.model)
        self._compilation.recipe = recipe

    def freeze(
        self, selection: Selection, *, top: int | None = None, bottom: int | None = None
    ) -> None:
        """Let these layers not train from the next `fit` on.

        Args:
            selection: A role (`"backbone"`, `"head"`, `"embeddings"`), a glob over layer paths, a
                layer, a callable `layer -> bool`, or a sequence of them.
            top: Only that many blocks from the output's side.
            bottom: Only that many blocks from the input's side, with the embeddings below them.
        """
        self._refuse_while_fitting("freeze")
        freeze(self.model, selection, top=top, bottom=bottom)

    def unfreeze(
        self, selection: Selection, *, top: int | None = None, bottom: int | None = None
    ) -> None:
        """Let these layers train from the next `fit` on; arguments as for `freeze`."""
        self._refuse_while_fitting("unfreeze")
        unfreeze(self.model, selection, top=top, bottom=bottom)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        *,
        validation_data: Any = None,
        epochs: int = 1,
        callbacks: "keras.callbacks.Callback | Sequence[keras.callbacks.Callback] | None" = None,
        class_weight: "Mapping[int, float] | str | None" = None,
        early_stopping: "bool | keras.callbacks.EarlyStopping" = True,
        cache_frozen: CacheFrozen = "auto",
        frozen_dropout: bool = False,
        **fit_args: Any,
    ) -> keras.callbacks.History:
        """Train what is trainable now.

        The data is checked before the first step. What is frozen below the lowest trainable layer
        gives the same for the same row in every epoch, so that it can run once and its activations
        be kept on disk while the epochs train the rest. After Ctrl-C the weights so far stay in the
        model and `history` holds the epochs so far, the unfinished one included.

        Args:
            x: Whatever `keras.Model.fit` takes: arrays, a `tf.data.Dataset`, a `PyDataset`.
            y: Labels, if `x` is arrays.
            validation_data: As for `keras.Model.fit`.
            epochs: As for `keras.Model.fit`: how many, or with `initial_epoch` up to which.
            callbacks: Any Keras callbacks, one or a list.
            class_weight: A dict from class to weight, or `"balanced"`.
            early_stopping: With validation data, True stops after three epochs without a lower
                validation loss and restores the weights of the best epoch. A
                `keras.callbacks.EarlyStopping` sets this otherwise; False trains to the end.
            cache_frozen: `"auto"` runs the frozen layers once where that saves time and the disk
                has room (half of what is free, or `$KERAS_FINETUNE_CACHE_GB`), and says so. True:
                or is an error. False: never. A folder: True, and the activations stay there for
                later runs; otherwise they go when the fit is done.
            frozen_dropout: Whether dropout below the lowest trainable layer stays active, as Keras
                has it for frozen layers. Then nothing can be kept.
            **fit_args: Further arguments of `keras.Model.fit`.

        Returns:
            The Keras `History` of this call.
        """
        started = time.perf_counter()
        self._refuse_while_fitting("fit")
        self._check_fit_arguments(epochs, fit_args)
        epochs_now = epochs - fit_args.get("initial_epoch", 0)
        check_read_again(x, epochs_now, fit_args)
        callbacks = checked_callbacks(callbacks)
        check_cache_frozen(cache_frozen)
        check_flag(frozen_dropout=frozen_dropout)
        validated = validation_data is not None or bool(fit_args.get("validation_split"))
        stopping = early_stopping_callbacks(early_stopping, validated, callbacks)
        recipe = self._compilation.current_recipe()
        if class_weight is not None:
            y = only_output(y)
        data = self._checked_data(x, y, validation_data, fit_args)
        classes = num_classes(self.model, recipe.compile_args.get("loss"))
        class_weight = resolve_class_weight(class_weight, data.x, data.y, classes)
        steps = count_steps(data.x, fit_args)
        self._compilation.prepare(None if steps is None else steps * epochs_now)
        frozen = frozen_once(
            self.model,
            data,
            self._cache_for(cache_frozen),
            epochs=epochs_now,
            cache_frozen=cache_frozen,
            frozen_dropout=frozen_dropout,
            known=self._cut_functions,
        )
        self._fitting = True
        try:
            with without_preprocessor(self.model, x), frozen as data:
                history, self._report = train(
                    self.model,
                    data,
                    epochs=epochs,
                    callbacks=[*stopping, *callbacks],
                    class_weight=class_weight,
                    gradient_checkpointing=recipe.gradient_checkpointing,
                    history=self.history,
                    started=started,
                    count=self._epoch_count,
                )
            return history
        except BaseException:
            self._compilation.forget()
            raise
        finally:
            self._fitting = False
            if not self._in_stages:
                self._cache = None

    def report(self) -> FitReport:
        """Say how the latest `fit` went: speed, padding, tracing; `rich.print` shows a table."""
        if self._report is None:
            raise RuntimeError("There is nothing to report yet: no fit was carried to its end.")
        return self._report

    def fit_stages(
        self, stages: Iterable[Stage], x: Any = None, y: Any = None, **fit_args: Any
    ) -> list[keras.callbacks.History]:
        """Train in stages: in each, exactly the layers that it names.

        Args:
            stages: From `gradual_unfreezing`, `linear_probe_then_tune`, or made by hand.
            x: As for `fit`.
            y: As for `fit`.
            **fit_args: Further arguments of `fit`, for every stage; `cache_frozen=True` or a folder
                for those stages in which layers are frozen below what trains.

        Returns:
            The Keras `History` of each stage.
        """
        for name in ("epochs", "initial_epoch"):
            if name in fit_args:
                raise ValueError(f"Each Stage says its epochs. Leave {name} out of fit_stages.")
        check_cache_frozen(fit_args.get("cache_frozen", "auto"))
        stages = checked_stages(self.model, stages)
        check_read_again(x, sum(stage.epochs for stage in stages), fit_args)
        recipe = self._compilation.current_recipe()
        histories = []
        self._in_stages = True  # What one stage computed of the frozen layers, the next may use.
        try:
            for stage in stages:
                stage.apply(self.model)
                if stage.learning_rate is not None:
                    self._compilation.recipe = replace(recipe, learning_rate=stage.learning_rate)
                args = fit_args if find_cut(self.model) else fit_args | {"cache_frozen": "auto"}
                histories.append(self.fit(x, y, epochs=stage.epochs, **args))
        finally:
            self._in_stages = False
            self._cache = None
        return histories

    def estimate(
        self,
        x: Any,
        y: Any = None,
        *,
        stages: Iterable[Stage] | None = None,
        validation_data: Any = None,
        epochs: int = 1,
        cache_frozen: CacheFrozen = "auto",
        **fit_args: Any,
    ) -> Estimate:
        """Tell time, memory and disk of `fit` or `fit_stages` before they run.

        A few steps of each stage run, on batches of all widths, and are forgotten: the model and
        its optimizer stay as they are. Tracing and compiling are in the estimate as they were met
        here; a fit that follows in the same process finds some of it done.

        Args:
            x: As for `fit`.
            y: As for `fit`.
            stages: As for `fit_stages`; None for a `fit` of what trains now.
            validation_data: As for `fit`.
            epochs: As for `fit`; stages have their own.
            cache_frozen: As for `fit`.
            **fit_args: Further arguments of `fit`. Those that say what the data is (`batch_size`,
                ...) count; callbacks, weights of classes and early stopping are left out.

        Returns:
            The estimate; `rich.print` shows it as a table.
        """
        self._refuse_while_fitting("estimate")
        self._check_fit_arguments(epochs, fit_args)
        epochs -= fit_args.pop("initial_epoch", 0)
        check_cache_frozen(cache_frozen)
        recipe = self._compilation.current_recipe()
        for name in ("callbacks", "class_weight", "early_stopping", "verbose"):
            fit_args.pop(name, None)
        frozen_dropout = fit_args.pop("frozen_dropout", False)
        check_flag(frozen_dropout=frozen_dropout)
        if frozen_dropout:
            cache_frozen = False
        data = self._checked_data(x, y, validation_data, fit_args)
        planned: list[tuple[Stage | None, int]] = [(None, epochs)]
        if stages is not None:
            planned = [(stage, stage.epochs) for stage in checked_stages(self.model, stages)]
        try:
            with without_preprocessor(self.model, x):
                return estimate_stages(self.model, recipe, data, planned, cache_frozen)
        finally:
            self._compilation.forget()

    def evaluate(self, x: Any = None, y: Any = None, **evaluate_args: Any) -> dict[str, float]:
        """Return loss and metrics on a data set, by name.

        Args:
            x: As for `fit`.
            y: As for `fit`.
            **evaluate_args: Further arguments of `keras.Model.evaluate`.
        """
        if not self.history:
            raise RuntimeError(
                "evaluate was called before fit, so that nothing has been tuned yet. Call fit "
                "first; to score the model as it is, call task.evaluate(model, examples), or "
                "model.compile and model.evaluate."
            )
        if x is None:
            raise ValueError("evaluate needs data: evaluate(x, y) with arrays, or a data set.")
        check_ends("evaluation data", x, "steps", evaluate_args)
        data = lists_as_arrays(self.model, FitData(x, y, None, evaluate_args))
        loss, weight = compiled_with(self.model).get("loss"), data.fit_args.get("sample_weight")
        check_side("evaluation data", self.model, loss, data.x, data.y, weight)
        with without_preprocessor(self.model, x), values_kept(self.model):
            found: dict[str, float] = self.model.evaluate(
                as_keras_reads(data.x, self.model), data.y, return_dict=True, **data.fit_args
            )
        if not found:
            refuse_empty("evaluation data")
        return found

    def predict(self, x: Any, **predict_args: Any) -> Any:
        """Return the model's outputs, as `keras.Model.predict` does."""
        if x is None:
            raise ValueError("predict needs data: predict(x) with arrays, or a data set.")
        if getattr(x, "shuffled", False):
            raise ValueError(
                "This data set is shuffled, so that predictions would not be in the order of its "
                "rows. Use task.dataset(..., shuffle=False), or task.predict."
            )
        check_ends("data", x, "steps", predict_args)
        plan = x.plan(0) if hasattr(x, "plan") else None
        with (
            without_preprocessor(self.model, x),
            values_kept(self.model),
            predictions_worth_compiling(self.model, plan),
        ):
            return self.model.predict(as_keras_reads(x, self.model), **predict_args)

    def summary(self) -> None:
        """Print the layers with their roles, parameters, learning rates, and whether they train."""
        rich.print(summary_table(self.model, *self._compilation.learning_rates()))

    def save(self, path: "str | os.PathLike[str]") -> Path:
        """Write the model to a `.keras` file, without optimizer state; return its path."""
        return save_without_optimizer(self.model, path)

    def _cache_for(self, cache_frozen: CacheFrozen) -> PrefixCache:
        folder = folder_of(cache_frozen)
        if self._cache is None or folder is not None:
            self._cache = PrefixCache(folder)
        return self._cache

    def _check_fit_arguments(self, epochs: int, fit_args: Mapping[str, Any]) -> None:
        others = (self.compile, self.model.compile)
        check_arguments(self.fit, self.model.fit, fit_args, others)
        check_fit_numbers(epochs, fit_args)

    def _checked_data(
        self, x: Any, y: Any, validation_data: Any, fit_args: Mapping[str, Any]
    ) -> FitData:
        """What goes into `fit`, once it is known to fit the model, which is built for it."""
        check_ends("training data", x, "steps_per_epoch", fit_args)
        check_ends("validation data", validation_data, "validation_steps", fit_args)
        loss = self._compilation.current_recipe().compile_args.get("loss")
        # Keras warns of its own default for what it cannot shuffle.
        own: dict[str, Any] = {"shuffle": False} if comes_in_order(x) else {}
        data = FitData(x, y, validation_data, {**own, **fit_args})
        data = lists_as_arrays(self.model, data)
        weight, share, size = (
            data.fit_args.get(x) for x in ("sample_weight", "validation_split", "batch_size")
        )
        validation_data = data.validation_data
        check_fit_data(
            self.model,
            data.x,
            data.y,
            validation_data,
            weight,
            loss=loss,
            validation_split=share,
            batch_size=size,
        )
        build(self.model, data.x)
        check_loss(self.model, loss)
        return data

    def _refuse_while_fitting(self, what: str) -> None:
        if self._fitting:
            raise RuntimeError(
                f"{what} was called while fit runs, by a callback perhaps. What trains cannot "
                "change inside an epoch loop. Give stages to fit_stages, or call fit once for each "
                "stage."
            )
