"""F1 of MiniLM-L6 on SQuAD's questions, and that of Hugging Face's recipe at the same settings.

    python benchmarks/quality_question_answering.py [--quick] [--data DIR] [--rows N] [--seeds N]
                                                    [--batch-size N] [--epochs N]
                                                    [--precision mixed_bfloat16|float32]

The settings are those of Hugging Face's run_qa example: windows of 384 tokens, 128 of which
overlap, batches of 12, 2 epochs, linear decay from 3e-5. Both compute in the same precision, and
are scored by `squad_scores` on the same test questions; with several seeds, by the mean. The peer
needs torch and transformers. The last line is JSON.
"""

import json
import statistics
import time
from pathlib import Path
from typing import Any

import keras
from side_by_side import machine, parse_arguments
from weights import minilm_folder

import keras_finetune as kft

LENGTH, STRIDE, RATE = 384, 128, 3e-5


def ours(chosen: Any, seed: int, train: Any, test: Any) -> kft.evaluation.SquadScores:
    """Train and score this library's model."""
    keras.utils.set_random_seed(seed)
    task = kft.tasks.QuestionAnswering(max_length=LENGTH, stride=STRIDE)
    tuner = kft.FineTuner(task.build(kft.load_pretrained(minilm_folder())))
    optimizer = keras.optimizers.AdamW(weight_decay=0.0, global_clipnorm=1.0, epsilon=1e-8)
    tuner.compile(optimizer, learning_rate=RATE, schedule="linear", precision=chosen.precision)
    data = task.dataset(train, batch_size=chosen.batch_size, seed=seed)
    tuner.fit(data, epochs=chosen.epochs, verbose=2)
    return task.evaluate(tuner.model, test)


def theirs(chosen: Any, seed: int, train: Any, test: Any) -> kft.evaluation.SquadScores:
    """Train and score Hugging Face's model."""
    import hf_question_answering as peer

    settings = {"max_length": LENGTH, "stride": STRIDE, "precision": chosen.precision}
    model, tokenizer = peer.fine_tune(
        minilm_folder(),
        list(train),
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        learning_rate=RATE,
        seed=seed,
        **settings,
    )
    answers = peer.predict(model, tokenizer, list(test), **settings)
    references = [row["answers"]["text"] for row in test]
    return kft.evaluation.squad_scores(answers, references, version="1.1")


def main() -> None:
    chosen = parse_arguments(
        __doc__.split("\n")[0],
        rows=8_570,
        batch_size=12,
        epochs=2,
        seeds=1,
        precision="mixed_bfloat16",
    )
    folder = Path(chosen.data or "") / "extractive_qa/squad_v1.1_dev"
    if not chosen.data or not folder.is_dir():
        raise SystemExit(f"There is no {folder}. Give --data DIR, or set KERAS_FINETUNE_DATA.")
    train, _, test = kft.data.load(folder, validation=0)
    train = kft.data.split(train, 0, min(chosen.rows, len(train)) - 1, seed=0).test
    if chosen.quick:
        train, test = train.head(200), test.head(100)
    print(f"{len(train):,} questions to train on, {len(test):,} to test")

    runs: dict[str, list[Any]] = {"keras_finetune": [], "hf": []}
    seconds: dict[str, list[float]] = {"keras_finetune": [], "hf": []}
    for seed in range(chosen.seeds):
        for name, run in (("keras_finetune", ours), ("hf", theirs)):
            started = time.perf_counter()
            found = run(chosen, seed, train, test)
            runs[name].append(found)
            seconds[name].append(round(time.perf_counter() - started, 1))
            print(f"{name}, seed {seed}: {found}", flush=True)

    def mean(score: str) -> dict[str, float]:
        return {
            name: round(statistics.mean(getattr(each, score) for each in found), 2)
            for name, found in runs.items()
        }

    result = {
        "benchmark": "quality_question_answering",
        "f1": mean("f1"),
        "exact_match": mean("exact_match"),
        "f1_of_seeds": {name: [round(x.f1, 2) for x in found] for name, found in runs.items()},
        "seconds": seconds,
        "train_questions": len(train),
        "test_questions": len(test),
        "settings": {
            "max_length": LENGTH,
            "stride": STRIDE,
            "learning_rate": RATE,
            "batch_size": chosen.batch_size,
            "epochs": chosen.epochs,
            "precision": chosen.precision,
        },
        "inexact": runs["keras_finetune"][0].inexact,
        "machine": machine(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
