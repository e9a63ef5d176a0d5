import keras
import pytest

from keras_finetune.device import on_gpu


@pytest.mark.backends
def test_it_is_what_the_backend_says(monkeypatch):
    backend = keras.backend.backend()
    for gpu in (False, True):
        if backend == "tensorflow":
            import tensorflow as tf

            kinds = ["CPU", "GPU"] if gpu else ["CPU"]
            devices = [tf.config.PhysicalDevice(f"/physical_device:{x}:0", x) for x in kinds]
            monkeypatch.setattr(tf.config, "list_physical_devices", lambda found=devices: found)
        elif backend == "torch":
            import torch

            monkeypatch.setattr(torch.cuda, "is_available", lambda found=gpu: found)
        else:
            import jax

            monkeypatch.setattr(jax, "default_backend", lambda found=gpu: "gpu" if found else "cpu")
        assert on_gpu() is gpu
