import gc
import importlib
import sys

import pytest

from keras_finetune.data.docstrings import (
    Docstring,
    kept_docstrings,
    package_docstrings,
    package_folder,
    source_docstrings,
)

SOURCE = '''\
"""Module."""
import nowhere

class Outer:
    """Outer
       class."""

    @property
    def value(self):
        """Value."""

    class Inner:
        async def run(self):
            "Run."

try:
    def guarded():
        """Guarded."""
except ImportError:
    def guarded():
        """Fallback."""

def blank():
    """   """

text = """not a docstring"""
'''


@pytest.fixture
def folder(tmp_path):
    files = {
        "__init__.py": '"""The package."""\nraise RuntimeError("imported")',
        "core.py": '"""The core."""\npattern = "\\d"',
        "core_test.py": '"""A test."""',
        "test_core.py": '"""A test."""',
        "tests/helper.py": '"""A helper of tests."""',
        "deep/__init__.py": "",
        "deep/er.py": 'def f():\n    """Deeper."""',
        "broken.py": '"""Broken."""\ndef (:',
        "latin.py": b'"""caf\xe9"""',
        "notes.txt": '"""no Python"""',
    }
    for name, content in files.items():
        path = tmp_path / "fake" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path / "fake"


def test_finds_each_kind_of_docstring():
    assert list(source_docstrings(SOURCE)) == [
        ("", "Module."),
        ("Outer", "Outer\nclass."),
        ("Outer.value", "Value."),
        ("Outer.Inner.run", "Run."),
        ("guarded", "Guarded."),
        ("guarded", "Fallback."),
    ]


def test_refuses_what_is_not_python():
    with pytest.raises(SyntaxError):
        list(source_docstrings("def (:"))


def test_reads_a_package_in_order_without_importing_it(folder):
    assert list(package_docstrings("fake", folder)) == [
        Docstring("fake", "fake", "", "The package."),
        Docstring("fake", "fake.core", "", "The core."),
        Docstring("fake", "fake.deep.er", "f", "Deeper."),
    ]


def test_modules_of_the_standard_library_have_no_prefix(folder):
    modules = [docstring.module for docstring in package_docstrings("python", folder)]
    assert modules == ["", "core", "deep.er"]


def test_leaves_out_the_old_copy_of_keras(tmp_path):
    for name in ("keras", "keras_tools", "ops"):
        (tmp_path / "python" / name).mkdir(parents=True)
        (tmp_path / "python" / name / "a.py").write_text('"""Text."""')
    modules = [docstring.module for docstring in package_docstrings("tensorflow", tmp_path)]
    assert modules == ["tensorflow.python.keras_tools.a", "tensorflow.python.ops.a"]


def test_finds_an_installed_package_without_importing_it(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder.parent))
    importlib.invalidate_caches()
    assert package_folder("fake") == folder
    assert "fake" not in sys.modules


def test_finds_the_standard_library():
    assert (package_folder("python") / "json" / "decoder.py").exists()


@pytest.mark.parametrize("package", ["no_such_package", "textwrap"])
def test_a_package_that_is_not_there(package):
    with pytest.raises(ValueError, match=f'no installed package "{package}"'):
        package_folder(package)


def test_a_version_is_parsed_once(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_FINETUNE_CACHE", str(tmp_path / "cache"))
    first = kept_docstrings("fake", folder, "1.0")
    assert first == list(package_docstrings("fake", folder))
    (folder / "core.py").write_text('"""Another core."""')
    assert kept_docstrings("fake", folder, "1.0") == first
    assert (
        kept_docstrings("fake", folder, "1.1") == list(package_docstrings("fake", folder)) != first
    )
    kept = sorted((tmp_path / "cache" / "docstrings").iterdir())
    assert len(kept) == 2
    for path in kept:
        path.write_text(path.read_text()[:-5])
    assert "Another core." in [found.text for found in kept_docstrings("fake", folder, "1.0")]
    assert sorted((tmp_path / "cache" / "docstrings").iterdir()) == kept


def test_the_garbage_collector_rests_meanwhile(folder, tmp_path, monkeypatch):
    """With TensorFlow imported it takes as long as the reading."""
    monkeypatch.setenv("KERAS_FINETUNE_CACHE", str(tmp_path / "cache"))
    running = []

    def read(*args):
        running.append(gc.isenabled())
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_finetune.data.docstrings.package_docstrings", read)
    with pytest.raises(KeyboardInterrupt):
        kept_docstrings("fake", folder, "1.0")
    assert running == [False]
    assert gc.isenabled()
