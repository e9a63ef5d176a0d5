import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from keras_finetune.data import Ragged, Store, StoreWriter, build_store, cache_dir


def chunks(rows=50, size=16, seed=0):
    rng = np.random.default_rng(seed)
    for start in range(0, rows, size):
        count = min(size, rows - start)
        lengths = rng.integers(0, 9, count)
        yield {
            "token_ids": Ragged(
                rng.integers(1, 100, lengths.sum()).astype("int32"), np.r_[0, np.cumsum(lengths)]
            ),
            "label": np.arange(start, start + count),
            "vector": rng.random((count, 3)).astype("float32"),
        }


def expected():
    rows = []
    for chunk in chunks():
        ids = chunk["token_ids"]
        parts = np.split(ids.values, ids.offsets[1:-1])
        rows += zip(parts, chunk["label"], chunk["vector"], strict=True)
    return rows


@pytest.fixture
def store(tmp_path):
    return build_store(tmp_path / "store", "key", chunks)


def test_rows_come_back(store):
    assert len(store) == store.num_rows == 50
    assert store.columns == ("token_ids", "label", "vector")
    for number, (ids, label, vector) in enumerate(expected()):
        row = store.row(number)
        assert row["token_ids"].tolist() == ids.tolist()
        assert row["label"] == label
        np.testing.assert_array_equal(row["vector"], vector)
    assert store.lengths("token_ids").tolist() == [len(row[0]) for row in expected()]
    assert store.column("label").tolist() == list(range(50))


def test_gather_pads_and_cuts(store):
    rows = np.array([7, 3, 49, 3])
    padded = store.gather("token_ids", rows, width=5, pad_value=-1)
    for received, number in zip(padded, rows, strict=True):
        ids = expected()[number][0][:5].tolist()
        assert received.tolist() == ids + [-1] * (5 - len(ids))
    assert store.gather("vector", rows).shape == (4, 3)
    assert store.gather("token_ids", rows).shape[1] == store.lengths("token_ids")[rows].max()


def test_ragged_rows_of_vectors(tmp_path):
    values = np.arange(12, dtype="float32").reshape(6, 2)
    chunk = {"states": Ragged(values, np.array([0, 4, 6]))}
    store = build_store(tmp_path / "store", "key", lambda: [chunk])
    found = store.gather("states", np.array([1, 0]), width=3)
    assert found.shape == (2, 3, 2)
    assert found[0].tolist() == [[8, 9], [10, 11], [0, 0]]


def test_opened_not_built_if_it_is_there(store, tmp_path):
    def never():
        raise AssertionError("built again")

    assert build_store(tmp_path / "store", "key", never).num_rows == 50


def test_another_key_is_built_anew(store, tmp_path, capsys):
    again = build_store(tmp_path / "store", "other", lambda: chunks(rows=5))
    assert again.num_rows == 5
    assert "built anew: it was made from something else" in capsys.readouterr().err


def _truncate(path):
    (path / "label.bin").write_bytes((path / "label.bin").read_bytes()[:-1])


def _flip(path):
    data = bytearray((path / "token_ids.bin").read_bytes())
    data[5] ^= 1
    (path / "token_ids.bin").write_bytes(data)


def _no_manifest(path):
    (path / "manifest.json").unlink()


def _half_manifest(path):
    (path / "manifest.json").write_text('{"format": 1, "key"')


def _other_format(path):
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "format": 0}))


def _other_json(path):
    (path / "manifest.json").write_text("[]")


def _keys_missing(path):
    (path / "manifest.json").write_text('{"format": 1}')


def _changed(change):
    def spoil(path):
        manifest = json.loads((path / "manifest.json").read_text())
        change(manifest)
        (path / "manifest.json").write_text(json.dumps(manifest))

    return spoil


_WRONG = {
    "no columns": lambda x: x.update(columns={}),
    "columns null": lambda x: x.update(columns=None),
    "a list of columns": lambda x: x.update(columns=["label"]),
    "a column null": lambda x: x["columns"].update(label=None),
    "other rows": lambda x: x.update(rows=10),
    "rows null": lambda x: x.update(rows=None),
    "no dtype": lambda x: x["columns"]["label"].pop("dtype"),
    "unknown dtype": lambda x: x["columns"]["label"].update(dtype="any"),
    "objects": lambda x: x["columns"]["label"].update(dtype="O"),
    "other shape": lambda x: x["columns"]["label"].update(shape=[7]),
    "shape null": lambda x: x["columns"]["label"].update(shape=None),
    "not ragged": lambda x: x["columns"]["token_ids"].update(ragged=False),
    "no files": lambda x: x["columns"]["label"].update(files=[]),
    "files null": lambda x: x["columns"]["label"].update(files=None),
    "no name": lambda x: x["columns"]["label"]["files"][0].pop("name"),
}


def _missing(path):
    (path / "vector.bin").unlink()


@pytest.mark.parametrize(
    "spoil",
    [
        _truncate,
        _flip,
        _no_manifest,
        _half_manifest,
        _other_json,
        _keys_missing,
        _other_format,
        _missing,
        *(pytest.param(_changed(change), id=name) for name, change in _WRONG.items()),
    ],
)
def test_a_damaged_store_is_rebuilt_with_a_notice(store, tmp_path, capsys, spoil):
    spoil(tmp_path / "store")
    with pytest.raises(ValueError, match=r"damaged|bytes|manifest|format"):
        Store(tmp_path / "store")
    again = build_store(tmp_path / "store", "key", chunks)
    assert again.row(9)["token_ids"].tolist() == expected()[9][0].tolist()
    assert "is built anew" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("build", ["folder", "file"])
def test_what_is_no_store_is_left_alone(tmp_path, build, capsys):
    path = tmp_path / "mine"
    if build == "folder":
        path.mkdir()
        (path / "thesis.txt").write_text("three years of work")
    else:
        path.write_text("three years of work")
    with pytest.raises(ValueError, match="is no store, for it holds"):
        build_store(path, "key", chunks)
    assert (path / "thesis.txt" if build == "folder" else path).read_text().startswith("three")
    assert capsys.readouterr().err == ""
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_appears_if_writing_fails(tmp_path, error):
    def failing():
        yield from list(chunks())[:2]
        raise error

    with pytest.raises(error):
        build_store(tmp_path / "store", "key", failing)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    from keras_finetune.data import store_writer

    def full(self, array):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_writer._CountedFile, "write", full)
    with pytest.raises(OSError, match="KERAS_FINETUNE_CACHE") as caught:
        build_store(tmp_path / "store", "key", chunks)
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EFBIG, errno.EIO, errno.EROFS])
def test_what_else_keeps_from_writing_is_named(tmp_path, monkeypatch, number):
    from keras_finetune.data import store_writer

    def failing(self, array):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(store_writer._CountedFile, "write", failing)
    message = f"'store' could not be written in {tmp_path}.*{os.strerror(number)}.*FINETUNE_CACHE"
    with pytest.raises(OSError, match=message) as caught:
        build_store(tmp_path / "store", "key", chunks)
    assert caught.value.errno == number
    assert list(tmp_path.iterdir()) == []


def test_what_keeps_from_reading_is_left_as_it_is(tmp_path):
    def unreadable():
        raise FileNotFoundError(errno.ENOENT, "No such file", "data.csv")

    with pytest.raises(FileNotFoundError, match=r"No such file: 'data.csv'"):
        build_store(tmp_path / "store", "key", unreadable)


def test_a_file_in_place_of_the_cache_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError, match=r"not be written in .*file.*KERAS_FINETUNE_CACHE") as caught:
        build_store(tmp_path / "file" / "store", "key", lambda: pytest.fail("encoded"))
    assert caught.value.errno == errno.ENOTDIR
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's always-full device")
def test_a_disk_that_is_really_full(tmp_path, monkeypatch):
    """The device /dev/full refuses every byte, as a full disk does."""
    from pathlib import Path

    real = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, *args, **rest: real(
            Path("/dev/full") if self.suffix == ".bin" else self, *args, **rest
        ),
    )
    with pytest.raises(OSError, match=r"The disk, .* is full"):
        build_store(tmp_path / "store", "key", chunks)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path, capsys):
    code = (
        "import os, sys; from keras_finetune.data import StoreWriter\n"
        "import numpy as np\n"
        "with StoreWriter(sys.argv[1], 'key') as writer:\n"
        "    writer.append({'label': np.arange(3)})\n"
        "    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "store")], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    assert build_store(tmp_path / "store", "key", chunks).num_rows == 50
    assert "left unfinished" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_two_writers_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "store"
    with StoreWriter(path, "a") as first, StoreWriter(path, "b") as second:
        first.append({"label": np.arange(3)})
        second.append({"label": np.arange(4)})
    store = Store(path)
    assert (store.key, store.num_rows) in [("a", 3), ("b", 4)]
    assert [each.name for each in tmp_path.iterdir()] == ["store"]


def test_processes_that_build_the_same_store_at_once(tmp_path):
    code = """
import sys, numpy as np
from keras_finetune.data import build_store
for number in range(40):
    path = f"{sys.argv[1]}/store-{number}"
    store = build_store(path, "key", lambda: ({"x": np.full(9, i)} for i in range(9)))
    assert store.column("x").tolist() == np.repeat(range(9), 9).tolist()
"""
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in started:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(
        f"store-{number}" for number in range(40)
    )


def test_the_first_of_two_that_write_the_same_stays(tmp_path):
    path = tmp_path / "store"
    with StoreWriter(path, "key") as second:
        second.append({"label": np.arange(3)})
        first = build_store(path, "key", lambda: [{"label": np.arange(3)}])
        written = (path / "manifest.json").stat()
    assert (path / "manifest.json").stat().st_ino == written.st_ino
    assert first.column("label").tolist() == [0, 1, 2]
    assert [each.name for each in tmp_path.iterdir()] == ["store"]


def test_an_open_store_outlives_its_replacement(store, tmp_path):
    with StoreWriter(tmp_path / "store", "new") as writer:
        writer.append({"label": np.arange(3)})
    assert store.row(9)["token_ids"].tolist() == expected()[9][0].tolist()
    assert store.column("label").tolist() == list(range(50))


def test_chunks_must_agree(tmp_path):
    def refused(second, message):
        with pytest.raises(ValueError, match=message):
            build_store(tmp_path / "store", "key", lambda: [{"label": np.arange(3)}, second])

    refused({"other": np.arange(3)}, "must have the columns")
    refused({"label": np.arange(3.0)}, "has entries of")
    refused({"label": np.zeros((3, 2), int)}, "has entries of")
    refused({"label": Ragged(np.arange(3), np.array([0, 3]))}, "ragged in every chunk")
    for offsets in ([1, 3], [0, 2], [0, 2, 1, 3]):
        with (
            pytest.raises(ValueError, match="must ascend from 0 to 3"),
            StoreWriter(tmp_path / "s", "k") as writer,
        ):
            writer.append({"ids": Ragged(np.arange(3), np.array(offsets))})
    with (
        pytest.raises(ValueError, match="as many rows"),
        StoreWriter(tmp_path / "s", "k") as writer,
    ):
        writer.append({"a": np.arange(3), "b": np.arange(2)})
    with pytest.raises(ValueError, match="must be numbers"), StoreWriter(tmp_path / "s", "k") as w:
        w.append({"a": np.array(["text"])})


def test_unknown_column(store):
    with pytest.raises(ValueError, match='Did you mean "label"'):
        store.column("lable")


def test_empty_columns(tmp_path):
    empty = {"token_ids": Ragged(np.zeros(0, "int32"), np.zeros(1, int)), "label": np.zeros(0, int)}
    store = build_store(tmp_path / "store", "key", lambda: [empty])
    assert len(store) == 0
    assert store.gather("token_ids", np.zeros(0, int), width=4).shape == (0, 4)


def test_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_FINETUNE_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("KERAS_FINETUNE_CACHE")
    assert cache_dir().name == "keras_finetune"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc for the resident size")
def test_reading_everything_leaves_memory_as_it_was(tmp_path):
    code = """
import sys, numpy as np
from keras_finetune.data import build_store
def resident():
    line = next(l for l in open("/proc/self/status") if l.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
chunk = np.ones((20_000, 512), "float32")
store = build_store(sys.argv[1], "key", lambda: ({"x": chunk} for _ in range(25)))
before = resident()
peak = 0
orders = np.arange(len(store)), np.random.default_rng(0).permutation(len(store))[:100_000]
for order in orders:
    for start in range(0, len(order), 64):
        store.gather("x", order[start : start + 64])
        if start % 1024 == 0:
            peak = max(peak, resident())
print(peak - before)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "store")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (tmp_path / "store" / "x.bin").stat().st_size > 900 * 2**20
    assert float(result.stdout) < 400
