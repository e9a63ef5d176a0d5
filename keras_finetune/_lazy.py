"""Names that import their module when they are first used.

TensorFlow takes seconds to import, so that ``import keras_finetune`` must not import it.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def attach(
    package: str, names: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make a package's `__getattr__`, `__dir__` and `__all__` (PEP 562).

    Args:
        package: The package's `__name__`.
        names: For each public name, the submodule that defines it, or `""` where the name *is* a
            submodule.

    Returns:
        The three objects, in that order.
    """

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if not names[name]:
            return importlib.import_module(f"{package}.{name}")
        value = getattr(importlib.import_module(f"{package}.{names[name]}"), name)
        # A submodule of the same name would otherwise stand here from now on.
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(names), sorted(names)
