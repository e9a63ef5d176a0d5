"""What every test starts from: a seed, and no chatter from TensorFlow."""

import os
import shutil
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import pytest


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


def pytest_configure(config):
    """Let all processes of a run prepare TFDS's data sets in one folder, and not in the user's."""
    if not hasattr(config, "workerinput"):
        os.environ["TFDS_DATA_DIR"] = tempfile.mkdtemp(prefix="keras_finetune_tfds_")


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["TFDS_DATA_DIR"], ignore_errors=True)
