"""The most memory that a process, or its GPU, has held."""

import sys
from pathlib import Path

import keras


def _gpu_memory() -> int | None:
    """Most bytes held on the accelerator since `forget_peak`; None if there is none."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    elif backend == "torch":
        import torch

        if torch.cuda.is_available():
            return int(torch.cuda.max_memory_allocated())
    else:
        import jax

        statistics = jax.local_devices()[0].memory_stats()
        if statistics:
            return int(statistics["peak_bytes_in_use"])
    return None


def forget_peak() -> None:
    """Let the peak of memory be what is held now, where the machine can."""
    backend, on_gpu = keras.backend.backend(), _gpu_memory() is not None
    if backend == "tensorflow" and on_gpu:
        import tensorflow as tf

        tf.config.experimental.reset_memory_stats("GPU:0")
    elif backend == "torch" and on_gpu:
        import torch

        torch.cuda.reset_peak_memory_stats()
    elif Path("/proc/self/clear_refs").exists():
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:  # A container may forbid it; then the peak is that of the whole process.
            return


def peak_memory() -> int:
    """Return the most bytes that the process held, or on a GPU its tensors, since the start."""
    found = _gpu_memory()
    if found is not None:
        return found
    status = Path("/proc/self/status")
    if status.exists():
        line = next(
            x for x in status.read_text("utf-8", "replace").split("\n") if x.startswith("VmHWM")
        )
        return int(line.split()[1]) * 1024
    import resource  # Not on Windows.

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
