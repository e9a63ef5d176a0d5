import keras
import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune.tuning import prefix_cache

WORDS = ["good", "bad", "film", "a", "very", "the", "plot", "acting", "is", "was", "and"]


@keras.saving.register_keras_serializable("keras_finetune_tests")
class MLP(keras.layers.Layer):
    """A layer that holds two others. Keras's Sequential is built and traced more slowly."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.wide = keras.layers.Dense(8, activation="relu", name="wide")
        self.narrow = keras.layers.Dense(8, name="narrow")

    def build(self, inputs_shape):
        self.wide.build(inputs_shape)
        self.narrow.build(inputs_shape)

    def call(self, inputs):
        return self.narrow(self.wide(inputs))

    def compute_output_shape(self, inputs_shape):
        return inputs_shape


@keras.saving.register_keras_serializable("keras_finetune_tests")
class Block(keras.layers.Wrapper):
    """A layer that holds another."""

    def call(self, inputs):
        return self.layer(inputs)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape


def classifier(seed=0):
    """Two blocks and a head over token ids, named as the builders name them."""
    keras.utils.set_random_seed(seed)
    ids = keras.Input((6,), dtype="int32", name="token_ids")
    x = keras.layers.Embedding(20, 8, name="token_embedding")(ids)
    x = keras.layers.GlobalAveragePooling1D(name="pooling")(x)
    for number in range(2):
        x = Block(MLP(name="mlp"), name=f"block_{number}")(x)
    return keras.Model(ids, keras.layers.Dense(3, name="head_logits")(x), name="classifier")


@pytest.fixture(scope="session")
def make_classifier():
    return classifier


@pytest.fixture
def model():
    return classifier()


@pytest.fixture(scope="session")
def data():
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 3
    ids = rng.integers(0, 20, (48, 6))
    ids[:, 0] = labels  # So that there is something to learn.
    return ids.astype("int32"), labels.astype("int32")


@pytest.fixture(scope="session")
def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compile_keras(model, optimizer, loss):
    """Compile as Keras does, for a run to compare with.

    On TensorFlow Keras would compile the step with XLA, and trace it twice where the optimizer has
    no variables yet.
    """
    jit_compile = "auto" if keras.backend.backend() != "tensorflow" else False
    model.compile(optimizer, loss, jit_compile=jit_compile)
    model.optimizer.build(model.trainable_variables)


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


def make_task(lengths):
    """A task and its rows: is the word "good" there?"""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.choice(lengths))) for _ in range(90)]
    rows = {"text": texts, "label": [("neg", "pos")["good" in text] for text in texts]}
    tokenizer = kft.data.Tokenizer.train(texts, 300, progress=False)
    task = kft.tasks.TextClassification(["neg", "pos"], tokenizer, max_length=24)
    task.rows = rows
    short = [i for i, text in enumerate(texts) if len(text.split()) == lengths[0]]
    task.held_out = {name: [values[i] for i in short] for name, values in rows.items()}
    return task


@pytest.fixture
def task():
    """With rows of one length, since every width is compiled."""
    return make_task([5])


def cnn(task, dropout=0.0):
    """A classifier that is traced sooner than a transformer, for what holds of any model."""
    keras.utils.set_random_seed(0)
    backbone = kft.models.cnn_encoder(task.tokenizer.vocab_size, hidden_dim=16)
    return task.build(backbone, pooling="max", dropout=dropout)


def transformer(task, *, num_layers=1, dropout=0.0):
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


def losses(task, make, cache_frozen, *, freeze=("backbone", {}), epochs=2, **fit_args):
    tuner = kft.FineTuner(make())
    tuner.compile("adam", learning_rate=0.01)
    tuner.freeze(freeze[0], **freeze[1])
    data = task.dataset(task.rows, batch_size=16, seed=1)
    validation = task.dataset(task.held_out, batch_size=16, shuffle=False)
    history = tuner.fit(
        data,
        validation_data=validation,
        epochs=epochs,
        cache_frozen=cache_frozen,
        verbose=0,
        **fit_args,
    ).history
    return history, tuner
