import keras
import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune.tuning import prefix_cache

WORDS = ["good", "bad", "film", "a", "very", "the", "plot", "acting", "is", "was", "and"]


@keras.saving.register_keras_serializable("keras_finetune_tests")
class Block(keras.layers.Wrapper):
    """A layer that holds others. Keras's TimeDistributed would trace them for each token."""

    def call(self, inputs):
        return self.layer(inputs)


def classifier(seed=0):
    """Two blocks and a head over token ids, named as the builders name them."""
    keras.utils.set_random_seed(seed)
    ids = keras.Input((6,), dtype="int32", name="token_ids")
    x = keras.layers.Embedding(20, 8, name="token_embedding")(ids)
    for number in range(2):
        layers = keras.Sequential(
            [
                keras.layers.Dense(8, activation="relu", name="wide"),
                keras.layers.Dense(8, name="narrow"),
            ],
            name="mlp",
        )
        x = Block(layers, name=f"block_{number}")(x)
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


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    """A cache folder for one test."""
    monkeypatch.setenv("KERAS_FINETUNE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def computed(monkeypatch):
    """What is computed for a cache: how many steps of the model, each time."""
    found = []
    make = prefix_cache.make_prefix

    def counted(cut, start=None):
        prefix = make(cut, start)
        found.append([step.operation.name for step in prefix._run[0]])
        return prefix

    monkeypatch.setattr(prefix_cache, "make_prefix", counted)
    return found


@pytest.fixture
def task():
    """A task and its rows: is the word "good" there?"""
    rng = np.random.default_rng(0)
    # Of two lengths, since every width is compiled.
    texts = [" ".join(rng.choice(WORDS, rng.choice([3, 28]))) for _ in range(90)]
    rows = {"text": texts, "label": [("neg", "pos")["good" in text] for text in texts]}
    tokenizer = kft.data.Tokenizer.train(texts, 300, progress=False)
    task = kft.tasks.TextClassification(["neg", "pos"], tokenizer, max_length=24)
    task.rows = rows
    return task


def cnn(task, dropout=0.0):
    """A classifier that is traced sooner than a transformer, for what holds of any model."""
    keras.utils.set_random_seed(0)
    backbone = kft.models.cnn_encoder(task.tokenizer.vocab_size, hidden_dim=16)
    return task.build(backbone, pooling="max", dropout=dropout)


def transformer(task, *, num_layers=2, dropout=0.0):
    keras.utils.set_random_seed(0)
    backbone = kft.models.transformer_encoder(
        task.tokenizer.vocab_size,
        num_layers=num_layers,
        num_heads=2,
        hidden_dim=16,
        max_length=24,
        dropout=dropout,
    )
    return task.build(backbone, pooling="mean", dropout=0.0)


def losses(task, make, cache_frozen, *, freeze=("backbone", {}), epochs=3, **fit_args):
    tuner = kft.FineTuner(make())
    tuner.compile("adam", learning_rate=0.01)
    tuner.freeze(freeze[0], **freeze[1])
    data = task.dataset(task.rows, batch_size=16, seed=1)
    validation = task.dataset(task.rows, batch_size=16, shuffle=False)
    history = tuner.fit(
        data,
        validation_data=validation,
        epochs=epochs,
        cache_frozen=cache_frozen,
        verbose=0,
        **fit_args,
    ).history
    return history, tuner
