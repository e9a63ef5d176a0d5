"""Translation and summarisation by models that start from random weights, beside simple baselines.

    python benchmarks/quality_text_to_text.py --dataset tatoeba_cmn|ag_news|scitldr
                                              [--model lstm|transformer] [--quick] [--data DIR]
                                              [--hidden-dim N] [--batch-size N] [--epochs N]
                                              [--num-beams N] [--validate]

tatoeba_cmn: English to Chinese, BLEU and chrF beside retrieval, the translation of the nearest
training sentence by TF-IDF. ag_news: title from description, ROUGE beside the first eight words.
scitldr: summary of an abstract, ROUGE beside the first sentence and beside the untrained model.
The test set is scored once; `--validate` scores held-out rows in its place. The last line is JSON.
"""

import argparse
import dataclasses
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from side_by_side import machine

import keras_finetune as kft


@dataclass(frozen=True)
class Dataset:
    """Where a data set is, what to read and write, in how many tokens, and how to train."""

    folder: str
    source: str
    target: str
    max_length: int
    max_target_length: int
    lowercase: bool
    vocab_size: int = 8_000


DATASETS = {
    "tatoeba_cmn": Dataset("translation_en_zh/tatoeba_cmn", "en", "zh", 48, 48, False),
    "ag_news": Dataset("news_classification/ag_news", "description", "title", 64, 24, True),
    "scitldr": Dataset("summarization/scitldr_abstract", "document", "summary", 256, 48, True),
}
RATES = {"lstm": 2e-3, "transformer": 1e-3}


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


def nearest(texts: list[str], known: list[str], answers: list[str]) -> list[str]:
    """Return for each text the answer to the known text that is nearest by TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(token_pattern=r"\w+")
    table = vectors.fit_transform(known)
    return [answers[i] for i in np.argmax((vectors.transform(texts) @ table.T).toarray(), axis=1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=DATASETS, required=True)
    parser.add_argument("--model", choices=RATES, default="lstm")
    parser.add_argument("--data", default=os.environ.get("KERAS_FINETUNE_DATA"))
    parser.add_argument("--quick", action="store_true", help="few rows, one epoch")
    parser.add_argument("--hidden-dim", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--num-beams", type=int, default=1)
    parser.add_argument("--validate", action="store_true", help="score held-out rows")
    chosen = parser.parse_args()
    dataset = DATASETS[chosen.dataset]
    folder = Path(chosen.data or "") / dataset.folder
    if not chosen.data or not folder.is_dir():
        parser.error(f"There is no {folder}. Give --data DIR, or set KERAS_FINETUNE_DATA.")
    train, scored = read(folder, dataset, chosen.validate)
    if chosen.quick:
        train, scored, chosen.epochs = train.head(500), scored.head(50), 1
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
    tokenizer = kft.data.Tokenizer.train(
        train.column(dataset.source) + train.column(dataset.target),
        dataset.vocab_size,
        "wordpiece",
        lowercase=dataset.lowercase,
    )
    task = make(
        tokenizer,
        max_length=dataset.max_length,
        max_target_length=dataset.max_target_length,
        label_smoothing=0.1,
        **dict(zip(columns, (dataset.source, dataset.target), strict=True)),
    )
    if chosen.model == "lstm":
        backbone = kft.models.lstm_encoder_decoder(tokenizer.vocab_size, chosen.hidden_dim)
    else:
        longest = max(dataset.max_length, dataset.max_target_length)
        backbone = kft.models.encoder_decoder(
            tokenizer.vocab_size, 3, 4, chosen.hidden_dim, max_length=longest
        )
    tuner = kft.FineTuner(task.build(backbone))
    if chosen.dataset == "scitldr":
        scores["untrained"] = score(task.predict(tuner.model, sources))
    tuner.compile("adamw", learning_rate=RATES[chosen.model], schedule="cosine", warmup=0.05)
    data = task.dataset(train, batch_size=chosen.batch_size)
    tuner.fit(data, epochs=chosen.epochs, verbose=2)
    fitted = time.perf_counter()
    written = task.predict(tuner.model, sources, num_beams=chosen.num_beams)
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
        "scored": "validation" if chosen.validate else "test",
        "settings": dataclasses.asdict(dataset)
        | {name: getattr(chosen, name) for name in ("hidden_dim", "batch_size", "epochs")}
        | {"num_beams": chosen.num_beams, "learning_rate": RATES[chosen.model]},
        "machine": machine(),
    }
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
