import keras
import numpy as np
import pytest


def classifier(seed=0):
    """Two blocks and a head over token ids, named as the builders name them."""
    keras.utils.set_random_seed(seed)
    ids = keras.Input((6,), dtype="int32", name="token_ids")
    x = keras.layers.Embedding(20, 8, name="token_embedding")(ids)
    for number in range(2):
        block = keras.Sequential(
            [
                keras.layers.Dense(8, activation="relu", name="wide"),
                keras.layers.Dense(8, name="narrow"),
            ],
            name="mlp",
        )
        x = keras.layers.TimeDistributed(block, name=f"block_{number}")(x)
    x = keras.layers.GlobalAveragePooling1D(name="head_pooling")(x)
    return keras.Model(ids, keras.layers.Dense(3, name="head_logits")(x), name="classifier")


@pytest.fixture
def make_classifier():
    return classifier


@pytest.fixture
def model():
    return classifier()


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 3
    ids = rng.integers(0, 20, (48, 6))
    ids[:, 0] = labels  # So that there is something to learn.
    return ids.astype("int32"), labels.astype("int32")


@pytest.fixture
def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
