"""What every test starts from: a seed, and no chatter from TensorFlow."""

import gc
import os
import shutil
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import pytest

FOLDERS = ("TFDS_DATA_DIR", "KERAS_FINETUNE_CACHE")  # TFDS's data sets; our stores


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def unfrozen():
    """Let nothing be frozen, as in a user's program, where quantizing freezes for a moment."""
    gc.unfreeze()
    yield
    gc.collect()
    gc.freeze()


def pytest_configure(config):
    """Let all processes of a run, examples too, keep data in the same folders, not the user's."""
    if not hasattr(config, "workerinput"):
        for name in FOLDERS:
            os.environ[name] = tempfile.mkdtemp(prefix=f"{name.lower()}_")


def pytest_collection_finish():
    """Let the collector leave out the half million objects of what is imported: 0.4 s each time."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        for name in FOLDERS:
            shutil.rmtree(os.environ[name], ignore_errors=True)
