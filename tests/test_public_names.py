"""The names that users may rely on: listed, importable, documented."""

import importlib
import inspect
from pathlib import Path

import pytest

import keras_finetune

PARTS = ["data", "evaluation", "generation", "models", "pretrained", "tasks", "tuning"]
REFERENCE = Path(__file__).parents[1] / "docs" / "reference.md"


@pytest.mark.parametrize("part", ["", *PARTS])
def test_all_is_sorted_and_importable(part):
    module = importlib.import_module(".".join(filter(None, ["keras_finetune", part])))
    assert module.__all__ == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("part", PARTS)
def test_public_names_have_a_docstring_that_says_what_they_take(part):
    module = importlib.import_module(f"keras_finetune.{part}")
    for name in module.__all__:
        value = getattr(module, name)
        if not callable(value):
            continue
        assert inspect.getdoc(value), f"{part}.{name} has no docstring"
        takes = list(inspect.signature(value).parameters)
        if takes and inspect.isfunction(value):
            assert "Args:" in value.__doc__ or len(takes) < 2, f"{part}.{name} lacks Args:"


@pytest.mark.parametrize("part", PARTS)
def test_reference_names_them_all(part):
    text = REFERENCE.read_text()
    module = importlib.import_module(f"keras_finetune.{part}")
    missing = [name for name in module.__all__ if f"`{name}`" not in text]
    assert not missing


def test_top():
    assert keras_finetune.FineTuner is keras_finetune.tuning.FineTuner
    assert set(dir(keras_finetune)) >= {"FineTuner", "data", "models", "tasks"}
    with pytest.raises(AttributeError, match="has no attribute 'FineTuna'"):
        _ = keras_finetune.FineTuna


def test_few_arguments_before_the_star():
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    for part in PARTS:
        module = importlib.import_module(f"keras_finetune.{part}")
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value):
                parameters = inspect.signature(value).parameters.values()
                assert sum(p.kind in positional for p in parameters) <= 7, f"{part}.{name}"


@pytest.mark.parametrize("part", PARTS)
def test_no_file_stands_in_the_place_of_a_public_name(part):
    """As it would if both had one name, and the file was imported first."""
    module = importlib.import_module(f"keras_finetune.{part}")
    for path in Path(module.__file__).parent.glob("[a-z]*.py"):
        importlib.import_module(f"keras_finetune.{part}.{path.stem}")
    assert not [name for name in module.__all__ if inspect.ismodule(getattr(module, name))]
