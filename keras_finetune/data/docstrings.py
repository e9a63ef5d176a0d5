"""The docstrings of installed packages, read from their files: nothing is imported."""

import ast
import gc
import hashlib
import importlib.util
import json
import os
import re
import secrets
import sysconfig
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from keras_finetune.data.store import cache_dir

# What holds no documentation of the package itself: tests, and what is installed beside the
# standard library. tensorflow.python.keras is an old copy of keras.
_SKIPPED_FOLDERS = {
    "__pycache__",
    "dist-packages",
    "idlelib",
    "include",
    "lib2to3",
    "site-packages",
    "test",
    "testing",
    "tests",
    "turtledemo",
}
_SKIPPED_MODULES = ("tensorflow.python.keras.",)


class Docstring(NamedTuple):
    """A docstring and where it is from.

    Attributes:
        package: The package, ``"numpy"``; ``"python"`` for the standard library.
        module: The module in it, ``"numpy.linalg._linalg"``.
        name: The object in the module, ``"LinAlgError"``; empty for the module itself.
        text: The docstring, without the indentation of the code.
    """

    package: str
    module: str
    name: str
    text: str


def package_folder(package: str) -> Path:
    """Find the folder of an installed package, without importing it.

    Args:
        package: The name of a top-level package; ``"python"`` is the standard library.

    Raises:
        ValueError: It is not installed, or is a single module.

    Example:
        >>> package_folder("numpy").name
        'numpy'
    """
    if package == "python":
        return Path(sysconfig.get_path("stdlib"))
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f'There is no installed package "{package}". Install it with pip.')
    return Path(next(iter(spec.submodule_search_locations)))


def kept_docstrings(package: str, folder: Path, version: str) -> list[Docstring]:
    """Read the docstrings of a package, or what was kept of them when they were read before.

    To parse all files of TensorFlow takes many times as long as what is then made of them, so it
    is done once a version, and the result is kept in the cache folder.

    Args:
        package: Name of the package.
        folder: Its folder.
        version: Its version: those of another one are read anew.

    Returns:
        What `package_docstrings` yields.
    """
    of = hashlib.sha256(f"{package}\n{version}\n{folder}".encode()).hexdigest()[:16]
    path = cache_dir() / "docstrings" / f"{package}-{of}.json"
    try:
        return [Docstring(*parts) for parts in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError):  # There is none yet, or it is damaged.
        with _no_collection():
            found = list(package_docstrings(package, folder))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}-{secrets.token_hex(4)}.json")
    try:
        unfinished.write_text(json.dumps(found), "utf-8")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return found


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python from looking for cycles among all that TensorFlow made: half of the time.

    Syntax trees are many objects, which make it look, and hold no cycles.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def package_docstrings(package: str, folder: Path) -> Iterator[Docstring]:
    """Read the docstrings of the modules, classes and functions of a package.

    Tests are left out, and so is a file that cannot be parsed.

    Args:
        package: Name of the package.
        folder: Its folder.

    Yields:
        The docstrings, always in the same order.
    """
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if _SKIPPED_FOLDERS.intersection(parts) or re.search(
            r"(_test$|^test_|^conftest$)", path.stem
        ):
            continue
        inner = parts[:-1] if parts[-1] == "__init__" else parts
        # Modules of the standard library have no package in front: "json.decoder".
        module = ".".join(inner if package == "python" else (package, *inner))
        if f"{module}.".startswith(_SKIPPED_MODULES):
            continue
        try:
            found = list(source_docstrings(path.read_text("utf-8")))
        except (SyntaxError, ValueError, OSError):
            continue
        for name, text in found:
            yield Docstring(package, module, name, text)


def source_docstrings(source: str) -> Iterator[tuple[str, str]]:
    r"""Read the docstrings in a piece of Python.

    Args:
        source: Source code of a module.

    Yields:
        Pairs of a dotted name (empty for the module) and a docstring without indentation.

    Raises:
        SyntaxError: It is not Python.
        ValueError: It holds null bytes.

    Example:
        >>> list(source_docstrings('class A:\n    def f(self):\n        "Do it."'))
        [('A.f', 'Do it.')]
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in the files of others
        tree = ast.parse(source)
    yield from _walk(tree, "")


def _walk(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        text = ast.get_docstring(node)
        if text and text.strip():
            yield name, text.strip()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _walk(child, f"{name}.{child.name}" if name else child.name)
        elif isinstance(child, (ast.stmt, ast.ExceptHandler)):
            yield from _walk(child, name)
