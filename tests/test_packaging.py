"""A wheel holds all that the library needs, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("setuptools", reason="the wheel is built with this environment's own")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    (source / "keras_finetune").symlink_to(ROOT / "keras_finetune")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*command, "-w", str(folder), str(source)], check=True, capture_output=True)
    return next(folder.glob("keras_finetune-*.whl"))


def test_every_module_is_in_it(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "keras_finetune").rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    assert package <= held
    assert {name.split("/")[0] for name in held if "dist-info" not in name} == {"keras_finetune"}


def test_it_imports_from_elsewhere(wheel, tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(wheel)!r}); import keras_finetune; "
        "print(keras_finetune.__file__, keras_finetune.models.lstm_encoder(9, hidden_dim=4).name)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert wheel.name in result.stdout


def test_versions_agree():
    import keras_finetune

    text = (ROOT / "setup.cfg").read_text()
    assert f"\nversion = {keras_finetune.__version__}\n" in text
    assert f"## {keras_finetune.__version__}" in (ROOT / "CHANGELOG.md").read_text()
