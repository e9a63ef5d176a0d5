"""Pretrain a causal transformer on plain text, save it, and load it again.

The text is the documentation of the installed Python packages, or with `--data` a .txt file, a line
a text, or any other source of `keras_finetune.data.load` that has a column `text`.

Perplexity is the number of tokens between which the model wavers, on text that it has not seen. It
begins near the size of the vocabulary, since a random model knows nothing. Expect it to fall from
4,104 to 125 in two epochs over 4,000 texts, in five minutes of processor time; it falls on with
`--texts 0` and more epochs.

    python examples/05_pretrain_language_model.py [--quick] [--data book.txt] [--out runs/lm]

`examples/quickstart.py` puts a classifier on such a model.
"""

import argparse
from pathlib import Path

import keras

import keras_finetune as kft

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="50 texts, a small model, one epoch")
parser.add_argument("--data", default="python_docs/language_modeling", help="where the text is")
parser.add_argument("--texts", type=int, default=4_000, help="how many to learn from; 0: all")
parser.add_argument("--out", type=Path, default=Path("runs/language_model"), help="where it goes")
parser.add_argument("--epochs", type=int, default=2)
arguments = parser.parse_args()
arguments.out.mkdir(parents=True, exist_ok=True)  # Now: a wrong path must not cost the run.
quick = arguments.quick
keras.utils.set_random_seed(0)

train, validation, _ = kft.data.load(arguments.data)
if quick:
    train, validation = train.head(50), validation.head(10)
elif arguments.texts:
    train, validation = train.head(arguments.texts), validation.head(arguments.texts // 10)
tokenizer = kft.data.Tokenizer.train(train.column("text"), vocab_size=1_000 if quick else 4_000)
task = kft.tasks.LanguageModeling(tokenizer, max_length=32 if quick else 96)

# The size of GPT-2 is num_layers=12, num_heads=12, hidden_dim=768, max_length=1024.
backbone = kft.models.transformer_decoder(
    tokenizer.vocab_size,
    num_layers=1 if quick else 2,
    num_heads=4,
    hidden_dim=64 if quick else 128,
    max_length=task.max_length,
)
model = task.build(backbone)
before = task.evaluate(model, validation)["perplexity"]

tuner = kft.FineTuner(model)
tuner.compile(
    keras.optimizers.AdamW(weight_decay=0.01, global_clipnorm=1.0),
    learning_rate=2e-3,
    schedule="cosine",
    warmup=0.05,
)
tuner.fit(
    task.dataset(train),
    validation_data=task.dataset(validation, shuffle=False),
    epochs=1 if quick else arguments.epochs,
)
after = task.evaluate(model, validation)["perplexity"]
print(f"Perplexity on held-out text: {before:,.0f} before, {after:,.1f} after")

# Architecture, weights, tokenizer and task are in one folder.
folder = kft.tasks.save(task, model, arguments.out)
print(f"Saved to {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
task, model = kft.tasks.load(folder)
print(f"Loaded again: perplexity {task.evaluate(model, validation)['perplexity']:,.1f}")
