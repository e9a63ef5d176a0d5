"""Imports flow one way, and importing the package is cheap."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "keras_finetune"
SHARED = {"_lazy", "device", "suggest"}
MAY_IMPORT = {
    "data": set(),
    "models": set(),
    "evaluation": set(),
    "generation": {"data", "models"},
    "pretrained": {"data", "models"},
    "tuning": {"data", "models"},
    "tasks": {"data", "models", "evaluation", "generation", "pretrained", "tuning"},
}


def imported_parts(path):
    """Which parts of the package a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            names = [node.module]
            if node.module == "keras_finetune":
                names = [f"keras_finetune.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("keras_finetune."):
                yield name.split(".")[1]


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_one_way(part):
    files = list((PACKAGE / part).glob("*.py"))
    assert files
    for path in files:
        others = set(imported_parts(path)) - SHARED - {part}
        assert others <= MAY_IMPORT[part], f"{path.name} imports {others - MAY_IMPORT[part]}"


def test_every_part_is_ruled():
    parts = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert parts == set(MAY_IMPORT)


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, keras_finetune; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    modules = set(result.stdout.split())
    assert not modules & {"tensorflow", "keras", "numpy", "jax", "torch", "tensorflow_datasets"}


def test_importing_the_package_takes_no_time_worth_noticing():
    def seconds(code):
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            best = min(best, time.perf_counter() - start)
        return best

    # A hundred times what it takes, so that no busy machine fails it.
    assert seconds("import keras_finetune") - seconds("pass") < 0.3
