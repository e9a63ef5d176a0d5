import keras
import pytest

from keras_finetune import FineTuner
from keras_finetune.tuning.saving import save_without_optimizer

pytestmark = pytest.mark.backends


def test_smaller_than_with_the_optimizer_and_still_compiled(model, data, loss, tmp_path):
    model.compile("adam", loss)
    model.fit(*data, verbose=0)
    model.save(tmp_path / "whole.keras")
    path = save_without_optimizer(model, tmp_path / "new" / "slim.keras")
    assert path.stat().st_size < (tmp_path / "whole.keras").stat().st_size
    assert model.compiled
    assert int(model.optimizer.iterations) == 2
    assert [each.name for each in path.parent.iterdir()] == ["slim.keras"]


def test_nothing_is_left_where_writing_fails(model, tmp_path, monkeypatch):
    def fail(path):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(model, "save", fail, raising=False)
    (tmp_path / "old.keras").write_bytes(b"old")
    with pytest.raises(OSError, match="no space"):
        save_without_optimizer(model, tmp_path / "old.keras")
    assert [each.name for each in tmp_path.iterdir()] == ["old.keras"]
    assert (tmp_path / "old.keras").read_bytes() == b"old"


def test_a_place_for_no_file(model, tmp_path):
    with pytest.raises(ValueError, match=r"path must be a path, a str or .* Received: None\.$"):
        FineTuner(model).save(None)
    (tmp_path / "file.csv").touch()
    with pytest.raises(ValueError, match=r'file\.csv" is a file; a directory is needed'):
        FineTuner(model).save(tmp_path / "file.csv" / "model.keras")


def test_suffix():
    with pytest.raises(ValueError, match=r"must end in \.keras"):
        save_without_optimizer(keras.Sequential(), "model.h5")
