"""A model's `config.json`: read, and asked for what a family needs of it."""

import json
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import keras

from keras_finetune.data import Tokenizer

Config = Mapping[str, Any]

# What Hugging Face calls activations, and the names that builders have for them.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_approximate",
    "gelu_fast": "gelu_approximate",
    "gelu_pytorch_tanh": "gelu_approximate",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
# The special tokens that a config numbers.
TOKEN_ROLES = ("pad", "bos", "eos", "sep", "cls")
GATED_ACTIVATIONS = {"silu": "swiglu", "swish": "swiglu", "gelu": "geglu"}


def read_config(path: Path) -> dict[str, Any]:
    """Read a `config.json`.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is not JSON, or does not name a model type.
    """
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in path.parent.iterdir())[:20]) or "nothing"
        raise FileNotFoundError(
            f'"{path.parent}" has no config.json, and so is no model directory in Hugging Face\'s '
            f"format. In it: {there}"
        )
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f'"{path}" is not valid JSON: {error}') from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ValueError(f'"{path}" names no "model_type", for example "bert".')
    return config


def config_beside(tokenizer: Tokenizer | None, model: keras.Model) -> Config | None:
    """Return the config that a model was loaded with, as it is with a tokenizer.

    Args:
        tokenizer: What makes the model's token ids; None for the one that it was loaded with.
        model: Perhaps from `load_pretrained`.

    Returns:
        The config, without special tokens' numbers if they are another tokenizer's; None if there
        is none.
    """
    config: Config | None = getattr(model, "pretrained_config", None)
    own = getattr(model, "tokenizer", None)
    if config is None or tokenizer is None or tokenizer is own:
        return config
    if own is not None and own.fingerprint == tokenizer.fingerprint:
        return config
    numbers = {f"{role}_token_id" for role in TOKEN_ROLES}
    return {key: value for key, value in config.items() if key not in numbers}


def size(config: Config, key: str) -> int:
    """Return a size that a config must have.

    Raises:
        ValueError: It is missing, or no positive int.
    """
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        found = f"has {key}={value!r}" if key in config else f"lacks {key!r}"
        raise ValueError(f"The config {found}, where a positive int is needed.")
    return value


def real(config: Config, key: str, default: float) -> Any:
    """Return a number of a config, or the default where the key is missing.

    Raises:
        ValueError: It is no number.
    """
    return _of_kind({key: default, **config}, key, Real, "a number")


def optional(config: Config, key: str, kind: type, needed: str) -> Any:
    """Return a value of a config, None where it is missing or null.

    Args:
        config: The config.
        key: Where the value is.
        kind: The class it must have.
        needed: That class for an error.

    Raises:
        ValueError: It is of another class.
    """
    return None if config.get(key) is None else _of_kind(config, key, kind, needed)


def _of_kind(config: Config, key: str, kind: type, needed: str) -> Any:
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ValueError(
            f"The config has {key}={value!r}, where {needed} is needed. Correct its config.json, "
            "or download it again."
        )
    return value


def activation(config: Config, key: str, names: Mapping[str, str] = ACTIVATIONS) -> str:
    """Return our name of a config's activation.

    Raises:
        ValueError: There is no such activation here.
    """
    value = str(config.get(key))
    if value not in names:
        raise ValueError(f"The config has {key}={value!r}; known are {', '.join(names)}.")
    return names[value]


def their_activation(name: str, names: Mapping[str, str] = ACTIVATIONS) -> str:
    """Return a config's name of one of our activations.

    Raises:
        ValueError: It has none.
    """
    for theirs, ours in names.items():
        if ours == name:
            return "gelu_new" if name == "gelu_approximate" else theirs
    raise ValueError(f"This family has no activation {name!r}.")


def require(config: Config, **values: Any) -> None:
    """Refuse a config that asks for something these models do not do.

    Args:
        config: The config.
        **values: What each key must be, where it is there and not null.

    Raises:
        ValueError: A key is something else.
    """
    for key, value in values.items():
        found = config.get(key)
        if found is not None and found != value:
            raise ValueError(
                f"The config has {key}={found!r}, which is not supported: only {value!r} is. "
                "Loading it all the same would give wrong results."
            )


def rotary(config: Config) -> dict[str, Any]:
    """Return `rope_theta` and `rope_scaling` of a config, from the newer or the older keys."""
    older = optional(config, "rope_scaling", dict, "an object")
    parameters = dict(optional(config, "rope_parameters", dict, "an object") or older or {})
    own = optional(parameters, "rope_theta", Real, "a number")
    theta = own or optional(config, "rope_theta", Real, "a number") or 10000.0
    parameters.pop("rope_theta", None)
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    require(parameters, partial_rotary_factor=1.0)
    return {"rope_theta": float(theta), "rope_scaling": parameters if kind != "default" else None}


def label_names(config: Config) -> tuple[str, ...]:
    """Return the label names of a classifier's config, in the order of class numbers.

    Raises:
        ValueError: They are not numbered 0, 1, 2, ...
    """
    names = optional(config, "id2label", dict, "an object")
    if not names:
        count = size({"num_labels": 2, **config}, "num_labels")
        return tuple(f"LABEL_{number}" for number in range(count))
    numbered = {str(number): str(name) for number, name in names.items()}
    numbers = [str(number) for number in range(len(numbered))]
    if numbered.keys() != set(numbers):
        raise ValueError(f"The config's id2label must number labels from 0. Received: {names}")
    return tuple(numbered[number] for number in numbers)
