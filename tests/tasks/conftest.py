import keras
import numpy as np
import pytest

from keras_finetune import models
from keras_finetune.data import Tokenizer

REVIEWS = {
    "text": [
        "a moving and funny film",
        "dull and far too long",
        "the best comedy of the year",
        "a waste of two hours",
        "warm, clever and beautifully acted",
        "nothing in it works at all",
    ]
    * 8,
    "label": ["good", "bad"] * 24,
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_FINETUNE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def tokenizer():
    return Tokenizer.train(REVIEWS["text"], vocab_size=300, progress=False)


@pytest.fixture
def reviews():
    return {name: list(values) for name, values in REVIEWS.items()}


@pytest.fixture
def backbone(tokenizer):
    keras.utils.set_random_seed(0)
    return models.cnn_encoder(tokenizer.vocab_size, hidden_dim=16, embedding_dim=16)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
