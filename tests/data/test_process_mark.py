import os
import platform
import subprocess
import sys

import pytest

from keras_finetune.data.process_mark import is_of_dead_process, process_mark


def test_a_living_process_has_its_own_marks():
    assert process_mark() != process_mark()
    assert not is_of_dead_process(process_mark())


@pytest.mark.skipif(os.name != "posix", reason="on Windows, to ask a process would end it")
def test_a_dead_one_is_told_from_one_of_another_machine(monkeypatch):
    code = "from keras_finetune.data.process_mark import process_mark; print(process_mark())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    mark = done.stdout.strip()
    assert is_of_dead_process(mark)
    monkeypatch.setattr(platform, "node", lambda: "elsewhere")
    assert not is_of_dead_process(mark)


@pytest.mark.parametrize("name", ["train", "1-2", "", "-1-a"])
def test_other_names_are_of_no_process(name):
    assert not is_of_dead_process(name)
