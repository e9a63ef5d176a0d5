"""What Keras's backend computes on."""

import functools
from pathlib import Path

import keras


def on_gpu() -> bool:
    """Tell whether the backend computes on a GPU or TPU.

    Example:
        >>> isinstance(on_gpu(), bool)
        True
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return any(x.device_type != "CPU" for x in tf.config.list_physical_devices())
    if backend == "torch":
        import torch

        return bool(torch.cuda.is_available())
    import jax

    return bool(jax.default_backend() != "cpu")


@functools.cache
def has_amx() -> bool:
    """Tell whether the processor multiplies tiles of bfloat16 (Intel's AMX); on Linux.

    Example:
        >>> isinstance(has_amx(), bool)
        True
    """
    said = Path("/proc/cpuinfo")
    return said.is_file() and " amx_bf16" in said.read_text(encoding="utf-8", errors="replace")
