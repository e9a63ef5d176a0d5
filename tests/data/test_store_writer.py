import numpy as np

from keras_finetune.data import Store, StoreWriter


def test_the_store_appears_only_when_all_is_written(tmp_path):
    path = tmp_path / "folder" / "store"
    with StoreWriter(path, "key") as writer:
        writer.append({"label": np.arange(3)})
        assert not path.exists()
    assert Store(path).num_rows == 3


def test_an_old_store_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "store"
    with StoreWriter(path, "old") as writer:
        writer.append({"label": np.arange(3)})
    writer = StoreWriter(path, "new")
    writer.__enter__()
    writer.append({"label": np.arange(5)})
    writer.__exit__(RuntimeError, RuntimeError(), None)
    assert Store(path).key == "old"


def test_what_the_system_writes_in_parts_is_complete(tmp_path, monkeypatch):
    """As it does with more than 2 GiB, and where little is free on the disk."""
    from keras_finetune.data import store_writer

    class InParts:
        def __init__(self, file):
            self._file = file

        def write(self, data):
            return self._file.write(data[:37])

        def close(self):
            self._file.close()

    real = store_writer._CountedFile.__init__

    def slow(self, path):
        real(self, path)
        self._file = InParts(self._file)

    monkeypatch.setattr(store_writer._CountedFile, "__init__", slow)
    values = np.random.default_rng(0).random((50, 3, 2))
    with StoreWriter(tmp_path / "store", "key") as writer:
        writer.append({"x": values})
    np.testing.assert_array_equal(Store(tmp_path / "store").column("x"), values)


def test_non_contiguous_arrays_are_written_in_order(tmp_path):
    values = np.arange(12).reshape(3, 4)[:, ::2]
    with StoreWriter(tmp_path / "store", "key") as writer:
        writer.append({"x": values})
    assert Store(tmp_path / "store").column("x").tolist() == values.tolist()
