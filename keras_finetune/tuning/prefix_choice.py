"""Whether `fit` runs the frozen layers once and keeps their activations."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np

from keras_finetune.data.store_writer import StoreWriteError
from keras_finetune.models.fused import without_xla
from keras_finetune.tuning.argument_checks import check_folder
from keras_finetune.tuning.counted_positions import counts_in_part, only_counted
from keras_finetune.tuning.data_kinds import FitData, is_arrays, split_rows
from keras_finetune.tuning.disk_budget import disk_budget
from keras_finetune.tuning.find_rows import rows_of
from keras_finetune.tuning.frozen_prefix import CutFunctions, cut_model
from keras_finetune.tuning.input_checks import own_step_method
from keras_finetune.tuning.prefix_cache import PrefixCache, Rows, bytes_needed, why_runs_anew
from keras_finetune.tuning.prefix_cut import PrefixCut, find_cut, uncut
from keras_finetune.tuning.prefix_key import why_no_key

CacheFrozen: TypeAlias = "bool | str | os.PathLike[str]"

# Less than that is computed sooner than stored: some seconds of a laptop's processor.
_LEAST_SAVED = 1e12
_LEAST_SHARE = 0.1
# Tokens from which on fused kernels save more time than compiling them takes, and some of memory.
_WORTH_COMPILING = 1_000_000
_NO_CUT = (
    "no layer below the lowest trainable one is frozen (and neither random nor stateful, nor "
    "adds losses), or the model has a call of its own"
)
_DRAWN_ANEW = "dropout in the frozen layers draws anew in every step (frozen_dropout=True)"


@contextmanager
def frozen_once(
    model: keras.Model,
    data: FitData,
    cache: PrefixCache,
    *,
    epochs: int,
    cache_frozen: CacheFrozen = "auto",
    frozen_dropout: bool = False,
    known: CutFunctions | None = None,
) -> Iterator[FitData]:
    """Let a model train on the activations of its frozen layers, where that pays.

    Args:
        model: The model.
        data: What goes into `fit`.
        cache: Where activations are kept.
        epochs: int, passes over the data.
        cache_frozen: `"auto"`, True, False, or the folder that `cache` keeps them in.
        frozen_dropout: Whether dropout in frozen layers stays active, as Keras has it.
        known: What an earlier fit compiled of the model as it was cut then.

    Yields:
        What is to go into `fit` instead.

    Raises:
        ValueError: Caching was asked for and is not possible.
    """
    asked = is_asked(cache_frozen)
    cut = None if frozen_dropout else find_cut(model)
    say = _say if data.fit_args.get("verbose", 1) else (lambda _: None)
    reason = None if cut is not None else _DRAWN_ANEW if frozen_dropout else _NO_CUT
    whole = uncut(model) if cut is None else None
    some_count = counts_in_part(cut or whole, data.x)
    spares = whole is not None and whole.graph.spares
    with cut_model(model, cut or (whole if some_count or spares else None), known):
        if cut is not None and cache_frozen is not False:
            found = _served(cut, data, cache, epochs, asked, say)
            data, reason = (data, found) if isinstance(found, str) else (found, None)
        if reason:
            refuse_if_asked(cache_frozen, reason)
        if reason and cut is not None and epochs > 1:
            say(f"The frozen layers run in every epoch: {reason}.")
        if some_count:
            validated = only_counted(data.validation_data)
            data = replace(data, x=only_counted(data.x), validation_data=validated)
        yield data


@dataclass(frozen=True)
class CachePlan:
    """What would be kept of the frozen layers.

    Attributes:
        data: What goes into `fit`.
        rows: The training rows.
        validation: The validation rows; None if there are none or they cannot be kept.
        tokens: How many tokens (or rows that are no sequences) all of them have.
        size: How many bytes the activations take.
    """

    data: FitData
    rows: Rows
    validation: Rows | None
    tokens: int
    size: int


def check_cache_frozen(cache_frozen: Any) -> None:
    """Refuse what is neither True, False, "auto" nor a folder that can be written to.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(cache_frozen, bool) or cache_frozen == "auto":
        return
    words = ("", "auto", "true", "false", "none")  # "Auto" is a slip, and no folder.
    is_path = isinstance(cache_frozen, str | os.PathLike)
    if not is_path or str(cache_frozen).lower() in words:
        raise ValueError(
            f'cache_frozen must be "auto", True, False or a folder. Received: {cache_frozen!r}'
        )
    check_folder("cache_frozen", cache_frozen)


def is_asked(cache_frozen: CacheFrozen) -> bool:
    """Tell whether activations are to be kept even where little is saved."""
    return cache_frozen != "auto" and cache_frozen is not False


def refuse_if_asked(cache_frozen: CacheFrozen, reason: str) -> None:
    """Refuse to go on without activations that were asked for.

    Raises:
        ValueError: They were.
    """
    if is_asked(cache_frozen):
        taken = "" if cache_frozen is True else ", a folder to keep activations in,"
        raise ValueError(f"cache_frozen={cache_frozen!r}{taken} is not possible: {reason}.")


def folder_of(cache_frozen: CacheFrozen) -> "str | os.PathLike[str] | None":
    """Return the folder that `cache_frozen` names; None if it names none."""
    return None if isinstance(cache_frozen, bool) or cache_frozen == "auto" else cache_frozen


def plan_cache(
    cut: PrefixCut | None, data: FitData, folder: Path, epochs: int, *, asked: bool
) -> CachePlan | str:
    """Decide whether the frozen layers are to run once.

    Args:
        cut: From `find_cut`.
        data: What goes into `fit`.
        folder: Where activations would be kept.
        epochs: int, passes over the data.
        asked: Whether to do so even where little is saved.

    Returns:
        What would be kept, or why nothing is.
    """
    if cut is None:
        return _NO_CUT
    if own := own_step_method(cut.graph.model):
        return f"the model has a {own} of its own, which may need its inputs"
    data = _with_validation_split(data)
    rows = _training_rows(cut.graph.model, data)
    if isinstance(rows, str):
        return rows
    tokens = _count_tokens(rows)
    found = _validation_rows(data)
    validation = None if isinstance(found, str | None) or found.refusal() else found
    size = bytes_needed(cut, rows, tokens)
    if not asked and (reason := _does_not_pay(cut, tokens, epochs)):
        return reason
    if validation is not None:
        size += bytes_needed(cut, validation, _count_tokens(validation))
        tokens += _count_tokens(validation)
    if size > (budget := disk_budget(folder)):
        return f"their activations take {_gigabytes(size)}, of {_gigabytes(budget)} for caches"
    refusal = why_no_key(cut) or rows.refusal() or why_runs_anew(cut, rows)
    return refusal or CachePlan(data, rows, validation, tokens, size)


def _served(
    cut: PrefixCut, data: FitData, cache: PrefixCache, epochs: int, asked: bool, say: Any
) -> FitData | str:
    """The data with activations for inputs, or why not."""
    plan = plan_cache(cut, data, cache.folder, epochs, asked=asked)
    if isinstance(plan, str):
        return plan
    data, rows = plan.data, plan.rows
    progress = bool(data.fit_args.get("verbose", 1))
    say(
        f"The frozen layers run once, not {epochs} times: their activations for "
        f"{rows.num_rows:,} rows take {_gigabytes(plan.size)}, and save "
        f"{_share_saved(cut, epochs):.0%} of the computation."
    )
    validated = data.validation_data
    try:
        with without_xla() if plan.tokens < _WORTH_COMPILING else nullcontext():
            x = cache.dataset(cut, rows, "train", progress=progress)
            if isinstance(x, str):
                return x
            if plan.validation is not None:
                found = cache.dataset(cut, plan.validation, "validation", progress=progress)
                validated = validated if isinstance(found, str) else found
    except StoreWriteError as error:
        if asked:
            raise _with_choices(error) from error
        return f"their activations could not be kept. {str(error.strerror).rstrip('.')}"
    of_arrays = ("batch_size", "shuffle", "sample_weight", "validation_batch_size")
    fit_args = {k: v for k, v in data.fit_args.items() if k not in of_arrays}
    return replace(
        data, x=x, y=None, validation_data=validated, fit_args=fit_args | {"shuffle": False}
    )


def _with_choices(error: StoreWriteError) -> StoreWriteError:
    return StoreWriteError(
        error.errno,
        f"{error.strerror} Or give cache_frozen another folder, or False to run the frozen layers "
        "in every epoch.",
    )


def _training_rows(model: keras.Model, data: FitData) -> Rows | str:
    args = data.fit_args
    if args.get("steps_per_epoch"):
        return "with steps_per_epoch, an epoch is not a pass over the data"
    if getattr(model, "preprocessor", None) is not None:
        return "the model's preprocessor runs in every step; see tasks.keras_hub_dataset"
    weight = args.get("sample_weight")
    return rows_of(
        data.x,
        data.y,
        weight,
        batch_size=args.get("batch_size") or 32,
        shuffle=args.get("shuffle", True) is not False,
    )


def _validation_rows(data: FitData) -> Rows | str | None:
    given = data.validation_data
    if given is None:
        return None
    parts = given if isinstance(given, tuple) else (given, None)
    size = data.fit_args.get("validation_batch_size") or data.fit_args.get("batch_size") or 32
    return rows_of(*parts, batch_size=size, shuffle=False)


def _with_validation_split(data: FitData) -> FitData:
    """Divide arrays as Keras does: the last rows are for validation."""
    share = data.fit_args.get("validation_split")
    if not share or not is_arrays(data.x) or data.validation_data is not None:
        return data
    parts = [data.x, data.y, data.fit_args.get("sample_weight")]
    (x, y, weight), validated = zip(*(split_rows(part, share) for part in parts), strict=True)
    validation = tuple(part for part in validated if part is not None)
    fit_args = {k: v for k, v in data.fit_args.items() if k != "validation_split"}
    fit_args |= {"sample_weight": weight} if weight is not None else {}
    return FitData(x, y, validation, fit_args)


def _count_tokens(rows: Rows) -> int:
    if rows.lengths is not None:
        return int(rows.lengths.sum())
    x = rows.sample().x
    return rows.num_rows * count_tokens(x, None) // len(keras.tree.flatten(x)[0])


def count_tokens(x: Any, lengths: np.ndarray | None) -> int:
    """Count the tokens of some rows; of rows that are no sequences, the rows.

    Args:
        x: Their inputs; the first one decides.
        lengths: (rows,) int, how many tokens of each are no padding, if known.
    """
    if lengths is not None:
        return int(lengths.sum())
    return int(np.prod(keras.tree.flatten(x)[0].shape[:2]))


def _does_not_pay(cut: PrefixCut, tokens: int, epochs: int) -> str | None:
    below, _ = cut.multiplications()
    share = _share_saved(cut, epochs)
    if share < _LEAST_SHARE:
        return f"running them once would save {share:.0%} of the computation"
    if 2.0 * below * tokens * (epochs - 1) < _LEAST_SAVED:
        return "there is little to compute"
    return None


def _share_saved(cut: PrefixCut, epochs: int) -> float:
    """Share of the computation; backwards costs twice as much as forwards."""
    below, above = cut.multiplications()
    return (epochs - 1) * below / max(epochs * (below + 3 * above), 1)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.3f} MB"


def _say(line: str) -> None:
    print(line, file=sys.stderr)
