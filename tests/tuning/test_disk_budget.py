import pytest

from keras_finetune.tuning.disk_budget import disk_budget


@pytest.mark.parametrize("wrong", ["inf", "-inf", "-1", "nan", "lots", "1e400"])
def test_what_is_no_number_of_gigabytes_is_refused(wrong, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_FINETUNE_CACHE_GB", wrong)
    with pytest.raises(ValueError, match=f"must be a number of gigabytes.*Received: '{wrong}'"):
        disk_budget(tmp_path)


def test_the_number_of_gigabytes_or_half_of_what_is_free(monkeypatch, tmp_path):
    for chosen, expected in (("0", 0), ("0.5", 500_000_000)):
        monkeypatch.setenv("KERAS_FINETUNE_CACHE_GB", chosen)
        assert disk_budget(tmp_path / "none" / "yet") == expected
    monkeypatch.delenv("KERAS_FINETUNE_CACHE_GB")
    assert disk_budget(tmp_path / "none" / "yet") > 0
