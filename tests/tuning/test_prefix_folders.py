import platform
import subprocess
import sys

import pytest

from keras_finetune.tuning.prefix_cache import PrefixCache


@pytest.mark.usefixtures("own_cache")
def test_only_folders_of_dead_processes_of_this_machine_go(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folder, living = tmp_path / "cache" / "prefix", PrefixCache()
    for machine in (platform.node(), "elsewhere"):
        (folder / f"{machine}-{ended.pid}-0123abcd").mkdir(parents=True)
    living.folder.mkdir()
    PrefixCache()
    assert {path.name for path in folder.iterdir()} == {
        living.folder.name,
        f"elsewhere-{ended.pid}-0123abcd",
    }
