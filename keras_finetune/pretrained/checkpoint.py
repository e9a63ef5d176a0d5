"""The tensors of a checkpoint: `model.safetensors`, or several files with an index."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes  # noqa: F401  NumPy knows bfloat16 and float8 once this is imported.
import numpy as np
from safetensors import SafetensorError, safe_open

from keras_finetune.suggest import did_you_mean

_ONE, _INDEX = "model.safetensors", "model.safetensors.index.json"
# The exponent's bits: all of them are set in NaN and infinity only.
_EXPONENTS = {"float16": 0x7C00, "bfloat16": 0x7F80, "float32": 0x7F800000}
# From here on float16 rounds to infinity.
_BEYOND_FLOAT16 = 65520.0


class Weights(Protocol):
    """The tensors of a file or directory, by name.

    Attributes:
        shapes: The shape of every tensor.
    """

    shapes: dict[str, tuple[int, ...]]

    def read(self, name: str) -> np.ndarray:
        """Return a tensor as it is stored."""


class Checkpoint:
    """The tensors of a directory, read one at a time, each only when it is asked for.

    Names are those of the bare backbone: a prefix that files with a head have is left out, and so
    are the names `gamma` and `beta` of old files.

    Args:
        directory: A directory with `model.safetensors` or `model.safetensors.index.json`.
        prefix: What stands before the backbone's names in files with a head: `"bert."`.

    Attributes:
        shapes: The shape of every tensor, by name.
    """

    def __init__(self, directory: Path, prefix: str) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._places: dict[str, tuple[Path, str]] = {}
        for path, stored in _stored_names(directory):
            with _open(path) as file:
                there = set(file.keys())
                for name in sorted(there) if stored is None else stored:
                    if name not in there:
                        raise ValueError(f'{_INDEX} puts "{name}" into "{path}", which lacks it.')
                    plain = _plain(name, prefix)
                    self._places[plain] = (path, name)
                    self.shapes[plain] = tuple(file.get_slice(name).get_shape())

    def read(self, name: str) -> np.ndarray:
        """Return a tensor as it is stored."""
        path, stored = self._places[name]
        # Opened anew for each, since pages that were read stay in memory while a file is open.
        with _open(path) as file:
            tensor: np.ndarray = file.get_tensor(stored)
        return tensor


def check_shapes(
    found: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, tuple[int, ...]],
    ignored: tuple[str, ...],
) -> None:
    """Refuse a checkpoint whose tensors are not those that the config says.

    Args:
        found: Shapes of what is there, by name.
        expected: Shapes of what must be there.
        ignored: Regular expressions of names that may be there.

    Raises:
        ValueError: A tensor is missing, is of another shape, or is of no use.
    """
    for name, shape in expected.items():
        if name not in found:
            missing = [name for name in expected if name not in found]
            more = f" ({len(missing)} are missing in all)" if len(missing) > 1 else ""
            raise ValueError(
                f'The checkpoint lacks the tensor "{name}"{more}.{did_you_mean(name, found)} Its '
                "config.json and its weights do not belong together, or it has no such head."
            )
        if found[name] != shape:
            raise ValueError(
                f'The tensor "{name}" has the shape {found[name]}, where the config says {shape}.'
            )
    for name in found:
        if name not in expected and not any(re.fullmatch(known, name) for known in ignored):
            raise ValueError(
                f'The checkpoint has a tensor "{name}" that the model has no place for; leaving it '
                "out would give wrong results. Its config.json and its weights do not belong "
                "together, or this variant is not supported."
            )


def check_values(name: str, value: np.ndarray, dtype: str) -> None:
    """Refuse a tensor with NaN or infinity in it, or with what will be.

    Args:
        name: The tensor's name.
        value: The tensor.
        dtype: What the model computes in.

    Raises:
        ValueError: It holds a number that is none or gets too large, or is not of floating point.
    """
    kind = value.dtype.name
    if kind not in _EXPONENTS and kind != "float64":
        raise ValueError(
            f'The tensor "{name}" is stored as {kind}; known are {", ".join(_EXPONENTS)}. A '
            "quantized checkpoint must be converted to one of them first."
        )
    if kind == "float64":
        bad = not np.isfinite(value).all()
    else:
        bits: Any = np.ascontiguousarray(value).view("uint32" if kind == "float32" else "uint16")
        exponent = bits.dtype.type(_EXPONENTS[kind])
        bad = bool((bits & exponent == exponent).any())
    if bad:
        raise ValueError(
            f'The tensor "{name}" holds NaN or infinity: the checkpoint is damaged, or its '
            "training diverged. Download it again, or take an earlier one."
        )
    largest = max(value.max(), value.min(), key=abs) if dtype == "float16" else 0
    if abs(largest) >= _BEYOND_FLOAT16:
        raise ValueError(
            f'The tensor "{name}" holds {float(largest)}, which would become infinity: float16 '
            'holds up to 65504. Load it with dtype="float32" or dtype="bfloat16".'
        )


def _stored_names(directory: Path) -> Iterator[tuple[Path, list[str] | None]]:
    """Yield each file and the names to read of it, None for all."""
    if (directory / _ONE).exists():
        yield directory / _ONE, None
        return
    index = directory / _INDEX
    if not index.exists():
        raise FileNotFoundError(_no_weights(directory))
    try:
        weight_map = json.loads(index.read_text("utf-8"))["weight_map"]
        places = {name: str(file) for name, file in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'"{index}" is no index of safetensors files, an object whose "weight_map" names the '
            f"file of each tensor: {error!r}. Download it again."
        ) from error
    for name, file in places.items():
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise ValueError(
                f'{_INDEX} puts "{name}" into "{file}", which is no .safetensors file in the '
                "model's own directory. Do not trust this checkpoint."
            )
    for file in sorted(set(places.values())):
        if not (directory / file).exists():
            raise FileNotFoundError(f'"{index}" names "{file}", which is not there.')
        yield directory / file, [name for name, place in places.items() if place == file]


def _no_weights(directory: Path) -> str:
    pickles = sorted(p.name for p in directory.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
    if not pickles:
        return f'"{directory}" has neither {_ONE} nor {_INDEX}.'
    return (
        f'"{directory}" has its weights in {pickles[0]}, a pickle, which can run any code when it '
        "is read and therefore is not. If you trust it, convert it once where transformers and "
        "torch are installed: AutoModel.from_pretrained(path).save_pretrained(new_path) writes "
        f"{_ONE}."
    )


def _open(path: Path) -> Any:
    try:
        return safe_open(str(path), framework="np")
    except SafetensorError as error:
        raise ValueError(
            f'"{path}" is not a whole safetensors file ({error}). It may be truncated: download '
            "it again."
        ) from error


def _plain(name: str, prefix: str) -> str:
    name = name.removeprefix(prefix)
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return name
