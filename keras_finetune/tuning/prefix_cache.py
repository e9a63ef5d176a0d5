"""The activations of a frozen prefix, computed once and kept on disk while they are of use."""

import os
import shutil
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_finetune.data.process_mark import is_of_dead_process, process_mark
from keras_finetune.data.store import Store, build_store, cache_dir
from keras_finetune.data.store_writer import Ragged
from keras_finetune.models.fused import without_xla
from keras_finetune.models.model_graph import run_steps
from keras_finetune.tuning.frozen_prefix import (
    cut_model,
    make_prefix,
    prefix_inputs,
    suffix_inputs,
    tensor_names,
)
from keras_finetune.tuning.prefix_cut import PrefixCut
from keras_finetune.tuning.prefix_key import prefix_key
from keras_finetune.tuning.prefix_rows import (
    OTHER_BATCHES,
    OtherBatchesError,
    PlannedRows,
    ReplayedRows,
)

# Libraries whose layers call no `add_loss`; with an activity regularizer they are above the cut.
_ADD_NO_LOSSES = ("keras.", "keras_finetune.")

Rows = PlannedRows | ReplayedRows


class PrefixCache:
    """Keeps the activations of frozen prefixes in a folder.

    Args:
        folder: Where; None for a folder that goes when this object goes, or Python ends.
    """

    def __init__(self, folder: "str | os.PathLike[str] | None" = None) -> None:
        if folder is None:
            self.folder = cache_dir() / "prefix" / process_mark()
            _remove_of_dead_processes(self.folder.parent)
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        else:
            self.folder = Path(folder)
        self._latest: dict[str, _Computed] = {}

    def dataset(self, cut: PrefixCut, rows: Rows, name: str, *, progress: bool = True) -> Any:
        """Return a data set whose inputs are the cut's tensors, computed now or found on disk.

        Args:
            cut: Where the model is cut.
            rows: The rows.
            name: `"train"` or `"validation"`.
            progress: Whether to show a bar.

        Returns:
            The data set; or why there is none, a text, where activations of a row by itself do not
            stand for the row.
        """
        key = prefix_key(cut, rows.key)
        computed = self._latest.get(name)
        if computed is None or computed.key != key:
            try:
                computed = self._compute(cut, rows, name, key, progress)
            except _OtherRowsError:
                return "below what trains the model makes other rows of the data's"
            except OtherBatchesError:
                return OTHER_BATCHES
        self._latest[name] = computed
        store = computed.store

        def replace(x: Any, positions: np.ndarray, width: int) -> dict[str, Any]:
            return suffix_inputs(cut, x, _gathered(store, positions, width, rows))

        if not _is_exact(cut, rows, replace):
            if rows.lengths is None:
                return "what this model makes of a row depends on the other rows of its batch"
            return "what this model makes of a row depends on how far it is padded"
        return rows.serve(replace, _shapes(cut, store))

    def _compute(
        self, cut: PrefixCut, rows: Rows, name: str, key: str, progress: bool
    ) -> "_Computed":
        start = self._start(cut, rows, name)
        prefix = make_prefix(cut, start.cut if start else None)

        def chunks() -> Iterator[dict[str, Any]]:
            first = 0
            for block in rows.blocks():
                inputs = prefix_inputs(cut, block.x)
                if start:
                    positions = first + np.arange(len(keras.tree.flatten(block.x)[0]))
                    first += len(positions)
                    known = _gathered(start.store, positions, block.width, rows)
                    inputs |= {f"start{x.removeprefix('cut')}": known[x] for x in known}
                found = prefix.run(inputs)
                size = len(keras.tree.flatten(block.x)[0])
                if any(len(value) != size for value in found.values()):
                    raise _OtherRowsError
                yield {
                    column: _column(value, cut, column, block.lengths)
                    for column, value in found.items()
                }

        store = build_store(
            self.folder / name,
            key,
            chunks,
            description=f"Frozen layers ({name})" if progress else None,
            total=rows.num_rows,
        )
        return _Computed(key, cut, store)

    def _start(self, cut: PrefixCut, rows: Rows, name: str) -> "_Computed | None":
        """What was computed for a cut further below, if it still holds."""
        latest = self._latest.get(name)
        if latest is None or latest.key != prefix_key(latest.cut, rows.key):
            return None
        here = {number for step in cut.prefix for number in step.outputs}
        return latest if here.issuperset(latest.cut.tensors) else None


class _OtherRowsError(Exception):
    """A tensor of the cut has more rows than the data, as where choices are made rows."""


@dataclass
class _Computed:
    key: str
    cut: PrefixCut
    store: Store


def bytes_needed(cut: PrefixCut, rows: Rows, tokens: int) -> int:
    """Tell how much of the disk the activations of some rows take."""
    total = 0
    for number in cut.tensors:
        symbol = cut.graph.symbols[number]
        entries = tokens if None in symbol.shape[1:] else rows.num_rows
        size = int(np.prod([x for x in symbol.shape[1:] if x is not None]))
        computed = getattr(symbol._keras_history.operation, "compute_dtype", symbol.dtype)
        itemsize = {"bfloat16": 2, "float16": 2, "bool": 1}.get(computed, 4)
        total += entries * size * itemsize
    return total


def why_runs_anew(cut: PrefixCut, rows: Rows) -> str | None:
    """Say which layer below a cut adds a loss, which counts in every step; None if none does."""
    layers = [x for step in cut.prefix for x in getattr(step.operation, "_flatten_layers", list)()]
    if all(type(layer).__module__.startswith(_ADD_NO_LOSSES) for layer in layers):
        return None
    inputs = prefix_inputs(cut, rows.sample().x)
    values = {
        number: keras.ops.convert_to_tensor(inputs[f"input_{i}"])
        for i, number in enumerate(cut.graph.inputs)
    }
    with without_xla():
        run_steps(cut.prefix, values, training=False)
    found = next((layer for layer in layers if layer._get_own_losses()), None)
    return found and f"the layer {found.name!r} adds a loss, which counts in every step"


def _is_exact(cut: PrefixCut, rows: Rows, replace: Any) -> bool:
    """Compare the model's outputs with those from the cut on, for a few rows padded together."""
    x, positions, width, lengths = rows.sample()
    with cut_model(cut.graph.model, cut):
        whole, part = (
            [
                keras.ops.convert_to_numpy(keras.ops.cast(output, "float32"))
                for output in keras.tree.flatten(
                    cut.graph.model(
                        keras.tree.map_structure(keras.ops.convert_to_tensor, inputs),
                        training=False,
                    )
                )
            ]
            for inputs in (x, replace(x, positions, width))
        )
    layers = [getattr(step.operation, "compute_dtype", None) for step in cut.prefix]
    tolerance = 0.05 if {"bfloat16", "float16"}.intersection(layers) else 1e-3
    # What a model says of padding does not matter.
    real = None if lengths is None else np.arange(width) < lengths[:, None]
    for one, other in zip(whole, part, strict=True):
        if real is not None and one.ndim > 2 and one.shape[:2] == real.shape:
            one, other = one[real], other[real]
        # NaN, as an average over no token is, stays NaN, which the loss will say.
        largest = np.nanmax(np.abs(one), initial=0.0)
        if not np.allclose(one, other, rtol=0, atol=tolerance * largest + 1e-7, equal_nan=True):
            return False
    return True


def _column(value: np.ndarray, cut: PrefixCut, name: str, lengths: Any) -> "np.ndarray | Ragged":
    if not _is_ragged(cut, name):
        return value
    width = value.shape[1]
    lengths = np.full(len(value), width) if lengths is None else np.minimum(lengths, width)
    kept = value[np.arange(width) < lengths[:, None]]
    return Ragged(kept, np.concatenate([[0], np.cumsum(lengths)]))


def _is_ragged(cut: PrefixCut, name: str) -> bool:
    shape = cut.graph.symbols[tensor_names(cut)[name.removesuffix("_mask")]].shape
    return len(shape) > 1 and shape[1] is None


def _gathered(store: Store, positions: np.ndarray, width: int, rows: Rows) -> dict[str, Any]:
    if rows.lengths is None:  # As wide as they were stored.
        return {name: store.gather(name, positions) for name in store.columns}
    return {
        name: store.gather(name, positions, width if store.is_ragged(name) else None)
        for name in store.columns
    }


def _shapes(cut: PrefixCut, store: Store) -> dict[str, Any]:
    names = tensor_names(cut)
    shapes = {name: cut.graph.symbols[number].shape for name, number in names.items()}
    masks = {f"{name}_mask": shape[:2] for name, shape in shapes.items()}
    return masks | shapes


def _remove_of_dead_processes(parent: Path) -> None:
    for folder in parent.glob("*"):
        if is_of_dead_process(folder.name):
            shutil.rmtree(folder, ignore_errors=True)
