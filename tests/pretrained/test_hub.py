"""`hf://` addresses, on a hub that is not there."""

import pytest

import keras_finetune as kft

huggingface_hub = pytest.importorskip("huggingface_hub")
pytestmark = pytest.mark.filterwarnings("ignore")


def test_malformed_addresses():
    for address in ("hf://", "hf://a/b/c", "hf://../etc"):
        with pytest.raises(ValueError, match='is no "hf://organisation/name"'):
            kft.load_pretrained(address)


def test_offline_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConnectionError, match=r"not in the cache.*load_pretrained"):
        kft.load_pretrained("hf://organisation/name")


def test_what_the_hub_gives_is_loaded(monkeypatch, tmp_path):
    kft.save_pretrained(
        kft.models.transformer_encoder(50, 1, 2, 16, num_segments=2), tmp_path / "m"
    )
    asked = {}

    def snapshot_download(name, **options):
        asked.update(options, name=name)
        return str(tmp_path / "m")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    model = kft.load_pretrained("hf://organisation/name@v2")
    assert model.output_shape == (None, None, 16)
    assert (asked["name"], asked["revision"]) == ("organisation/name", "v2")
    assert not any(pattern.endswith((".bin", ".py", ".pt")) for pattern in asked["allow_patterns"])


def test_a_cached_model_is_found_offline(monkeypatch, tmp_path):
    """The layout of the hub's cache directory, as the hub's own library writes it."""
    folder = tmp_path / "models--organisation--name"
    kft.save_pretrained(
        kft.models.transformer_encoder(50, 1, 2, 16, num_segments=2),
        folder / "snapshots" / "abc123",
    )
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    download = huggingface_hub.snapshot_download
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda name, **options: download(name, cache_dir=tmp_path, **options),
    )
    assert kft.load_pretrained("hf://organisation/name").output_shape == (None, None, 16)
