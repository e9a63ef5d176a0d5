"""Summarisation: a text in, one line out.

By default the texts are docstrings of the installed Python packages, and their first lines are the
summaries: no network is needed. Others come with `--data`: a TFDS name such as `cnn_dailymail`
(with `--text article --summary highlights`), a .jsonl, .csv, .tsv or .parquet file, or a folder
with train and test files. `--backbone` takes a directory in Hugging Face's format: BART, or a
causal model such as GPT-2; without it a small model starts from random weights.

Beside ROUGE of the model stands that of the text's own first sentence (lead-1), which a summary
must beat to be worth its while. Expect a small model without pretraining to stay below it: after
`--epochs 2`, two minutes of processor time, it had ROUGE-1 13.0 where lead-1 had 22.5 (100 rows),
and wrote "returns the given of the given", though its loss was still falling. A pretrained backbone
is what this task wants.

    python examples/08_summarization.py [--quick] [--model lstm|transformer|decoder] [--interactive]
    python examples/08_summarization.py --data papers/ --backbone bart-base/
"""

import argparse
import contextlib
import itertools
import re
import sys
from pathlib import Path

import keras

import keras_finetune as kft

OFFLINE = "python_docs/summarization"

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="a few rows, a tiny model, one epoch")
parser.add_argument("--data", default=OFFLINE, help="a TFDS name, a file or a folder")
parser.add_argument("--text", default="document", help="the column to summarise")
parser.add_argument("--summary", default="summary", help="the column with summaries")
parser.add_argument("--model", default="lstm", choices=["lstm", "transformer", "decoder"])
parser.add_argument("--backbone", help="a directory in Hugging Face's format")
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--learning-rate", type=float, help="default: what suits the model")
parser.add_argument("--hidden-dim", type=int, default=128, help="width of a model from nothing")
parser.add_argument("--num-beams", type=int, default=1, help="beams of the search; 1: greedy")
parser.add_argument("--max-length", type=int, default=128, help="tokens of a text")
parser.add_argument("--test-rows", type=int, default=300, help="rows to score")
parser.add_argument("--out", type=Path, help="folder to save the task and the model to")
parser.add_argument("--interactive", action="store_true", help="summarise what you type")
arguments = parser.parse_args()
if arguments.num_beams < 1:
    parser.error("--num-beams must be 1 or more")
if arguments.out:  # Now: a wrong path must not cost the run.
    arguments.out.mkdir(parents=True, exist_ok=True)
quick = arguments.quick
keras.utils.set_random_seed(0)

train, validation, test = kft.data.load(arguments.data)
train, validation, test = (
    part.pick([arguments.text, arguments.summary]) for part in (train, validation, test)
)
if quick:
    train, validation, test = train.head(60), validation.head(20), test.head(8)
    arguments.max_length = min(arguments.max_length, 32)
test = test.head(arguments.test_rows)
print(f"{len(train):,} rows to train on, {len(validation):,} to validate, {len(test):,} to test")


def make_backbone() -> tuple[keras.Model, kft.data.Tokenizer]:
    """Return a model that reads and writes, and its tokenizer."""
    if arguments.backbone:
        try:  # With the head that it has, if any: not all of them reuse the embeddings.
            backbone = kft.load_pretrained(arguments.backbone, head=True)
        except ValueError:
            backbone = kft.load_pretrained(arguments.backbone)
        return backbone, backbone.tokenizer
    texts = [*train.column(arguments.text), *train.column(arguments.summary)]
    tokenizer = kft.data.Tokenizer.train(texts, 1_000 if quick else 4_000, lowercase=True)
    size = 32 if quick else arguments.hidden_dim
    if arguments.model == "lstm":
        return kft.models.lstm_encoder_decoder(tokenizer.vocab_size, size), tokenizer
    layers, positions = 1 if quick else 2, arguments.max_length + 32
    build = {
        "transformer": kft.models.encoder_decoder,
        "decoder": kft.models.transformer_decoder,
    }[arguments.model]
    return build(tokenizer.vocab_size, layers, 4, size, max_length=positions), tokenizer


backbone, tokenizer = make_backbone()
task = kft.tasks.Summarization(
    tokenizer,
    max_length=arguments.max_length,
    max_target_length=32,
    text=arguments.text,
    summary=arguments.summary,
)
tuner = kft.FineTuner(task.build(backbone))
rate = 5e-5 if arguments.backbone else 2e-3 if arguments.model == "lstm" else 1e-3
tuner.compile(
    "adamw", learning_rate=arguments.learning_rate or rate, schedule="cosine", warmup=0.05
)
tuner.fit(
    task.dataset(train),
    validation_data=task.dataset(validation, shuffle=False),
    epochs=1 if quick else arguments.epochs,
)

lead = [re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0] for text in test.column(arguments.text)]
print("lead-1:", kft.evaluation.rouge_scores(lead, test.column(arguments.summary)))
print("model: ", task.evaluate(tuner.model, test, num_beams=arguments.num_beams))
shown = test.head(4)
predicted = task.predict(tuner.model, shown, num_beams=arguments.num_beams)
for row, written in zip(shown, predicted, strict=True):
    print(f"\ntext:    {row[arguments.text][:160]} ...")
    print(f"summary: {row[arguments.summary]}\nmodel:   {written}")

if arguments.out:
    print(f"Saved to {kft.tasks.save(task, tuner.model, arguments.out)}")
if arguments.interactive:
    print("\nA text in a line; an empty line ends:")
    with contextlib.suppress(KeyboardInterrupt):
        for text in itertools.takewhile(bool, map(str.strip, sys.stdin)):
            try:
                print(*task.predict(tuner.model, [text], num_beams=arguments.num_beams))
            except ValueError as error:  # As for a text of no token: try another.
                print(error)
