"""Translation, English to Chinese by default.

The sentences are the messages of the installed Django and their translations (`pip install
django`): no network is needed, but they are few, and short. Others come with `--data`: a TFDS name
such as `wmt19_translate/zh-en`, a .jsonl, .csv, .tsv or .parquet file, or a folder with train and
test files; columns are named after the languages. `--backbone` takes a directory in Hugging Face's
format: an encoder-decoder, or a causal model such as Qwen.

Beside BLEU and chrF of the model, with sacrebleu's signature, stand those of retrieval: the
translation of the training sentence that is nearest by TF-IDF. A model that has learned to
translate must beat it. Expect the small LSTM, which has 568 messages to learn from, to get some
right and to stay below retrieval, since many messages are nearly alike: BLEU 15.6 against 27.9,
after a minute of processor time.

    python examples/09_translation.py [--quick] [--model lstm|transformer|decoder] [--interactive]
    python examples/09_translation.py --data pairs/ --hidden-dim 256 --batch-size 64 --epochs 8
"""

import argparse
import contextlib
import itertools
import re
import sys
from collections import Counter
from pathlib import Path

import keras
import numpy as np

import keras_finetune as kft

OFFLINE = "python_docs/translation_en_zh"

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="a few rows, a tiny model, two epochs")
parser.add_argument("--data", default=OFFLINE, help="a TFDS name, a file or a folder")
parser.add_argument("--source", default="en", help="the column to translate")
parser.add_argument("--target", default="zh", help="the column with translations")
parser.add_argument("--model", default="lstm", choices=["lstm", "transformer", "decoder"])
parser.add_argument("--backbone", help="a directory in Hugging Face's format")
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--learning-rate", type=float, help="default: what suits the model")
parser.add_argument("--hidden-dim", type=int, default=128, help="width of a model from nothing")
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--num-beams", type=int, default=1, help="beams of the search; 1: greedy")
parser.add_argument("--test-rows", type=int, default=500, help="rows to score")
parser.add_argument("--out", type=Path, help="folder to save the task and the model to")
parser.add_argument("--interactive", action="store_true", help="translate what you type")
arguments = parser.parse_args()
if arguments.num_beams < 1:
    parser.error("--num-beams must be 1 or more")
if arguments.out:  # Now: a wrong path must not cost the run.
    arguments.out.mkdir(parents=True, exist_ok=True)
quick = arguments.quick
keras.utils.set_random_seed(0)
MAX_LENGTH = 24 if quick else 48

train, validation, test = kft.data.load(arguments.data)
train, validation, test = (
    part.pick([arguments.source, arguments.target]) for part in (train, validation, test)
)
if quick:
    train, validation, test = train.head(60), validation.head(20), test.head(8)
test = test.head(arguments.test_rows)
print(f"{len(train):,} rows to train on, {len(validation):,} to validate, {len(test):,} to test")


def retrieve(texts: list[str], known: list[str], answers: list[str]) -> list[str]:
    """Return for each text the answer to the known text that is nearest by TF-IDF."""
    bags = [Counter(re.findall(r"\w+", text.lower())) for text in known]
    frequency = Counter(word for bag in bags for word in bag)
    weight = {word: np.log(len(known) / count) + 1 for word, count in frequency.items()}
    norms = [sum((n * weight[word]) ** 2 for word, n in bag.items()) ** 0.5 for bag in bags]
    holding: dict[str, list[tuple[int, float]]] = {word: [] for word in weight}
    for number, (bag, norm) in enumerate(zip(bags, norms, strict=True)):
        for word, n in bag.items():
            holding[word].append((number, n * weight[word] ** 2 / norm))
    found = []
    for text in texts:
        scores = np.zeros(len(known))
        for word, n in Counter(re.findall(r"\w+", text.lower())).items():
            for number, score in holding.get(word, ()):
                scores[number] += n * score
        found.append(answers[int(scores.argmax())])
    return found


def make_backbone() -> tuple[keras.Model, kft.data.Tokenizer]:
    """Return a model that reads and writes, and its tokenizer."""
    if arguments.backbone:
        try:  # With the head that it has, if any: not all of them reuse the embeddings.
            backbone = kft.load_pretrained(arguments.backbone, head=True)
        except ValueError:
            backbone = kft.load_pretrained(arguments.backbone)
        return backbone, backbone.tokenizer
    texts = [*train.column(arguments.source), *train.column(arguments.target)]
    tokenizer = kft.data.Tokenizer.train(texts, 1_000 if quick else 8_000, "wordpiece")
    size = 32 if quick else arguments.hidden_dim
    if arguments.model == "lstm":
        return kft.models.lstm_encoder_decoder(tokenizer.vocab_size, size), tokenizer
    build = {
        "transformer": kft.models.encoder_decoder,
        "decoder": kft.models.transformer_decoder,
    }[arguments.model]
    layers = 1 if quick else 2
    return build(tokenizer.vocab_size, layers, 4, size, max_length=2 * MAX_LENGTH), tokenizer


backbone, tokenizer = make_backbone()
task = kft.tasks.Translation(
    tokenizer,
    source=arguments.source,
    target=arguments.target,
    max_length=MAX_LENGTH,
    max_target_length=MAX_LENGTH,
)
tuner = kft.FineTuner(task.build(backbone))
rate = 5e-5 if arguments.backbone else 5e-3 if arguments.model == "lstm" else 1e-3
tuner.compile(
    "adamw", learning_rate=arguments.learning_rate or rate, schedule="cosine", warmup=0.05
)
tuner.fit(
    task.dataset(train, batch_size=arguments.batch_size),
    validation_data=task.dataset(validation, batch_size=arguments.batch_size, shuffle=False),
    epochs=2 if quick else arguments.epochs,
)

sources, references = test.column(arguments.source), test.column(arguments.target)
nearest = retrieve(sources, train.column(arguments.source), train.column(arguments.target))
retrieval = kft.evaluation.translation_scores(nearest, references, target_language=arguments.target)
print("retrieval:", retrieval)
print("model:    ", task.evaluate(tuner.model, test, num_beams=arguments.num_beams))
predicted = task.predict(tuner.model, sources[:6], num_beams=arguments.num_beams)
for row, written in zip(test.head(6), predicted, strict=True):
    print(f"{row[arguments.source]}\n    {row[arguments.target]}\n    model: {written}")

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
