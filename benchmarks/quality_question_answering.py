"""F1 of MiniLM-L6 on SQuAD's questions, and that of Hugging Face's recipe at the same settings.

    python benchmarks/quality_question_answering.py [--quick] [--data DIR] [--rows N]
                                                    [--batch-size N] [--epochs N]

Both read windows of 384 tokens, 128 of which overlap, learn in float32 with linear decay from 3e-5,
and are scored by `squad_scores` on the same test questions. The peer needs torch and transformers.
The last line is JSON.
"""

import dataclasses
import json
import time
from pathlib import Path

import keras
import quality
from side_by_side import machine, parse_arguments

import keras_finetune as kft

LENGTH, STRIDE, RATE = 384, 128, 3e-5


def main() -> None:
    chosen = parse_arguments(__doc__.split("\n")[0], rows=8_570, batch_size=32, epochs=2)
    folder = Path(chosen.data or "") / "extractive_qa/squad_v1.1_dev"
    if not chosen.data or not folder.is_dir():
        raise SystemExit(f"There is no {folder}. Give --data DIR, or set KERAS_FINETUNE_DATA.")
    train, _, test = kft.data.load(folder, validation=0)
    train = kft.data.split(train, 0, min(chosen.rows, len(train)) - 1, seed=0).test
    if chosen.quick:
        train, test = train.head(200), test.head(100)
    print(f"{len(train):,} questions to train on, {len(test):,} to test")

    started = time.perf_counter()
    keras.utils.set_random_seed(0)
    task = kft.tasks.QuestionAnswering(max_length=LENGTH, stride=STRIDE)
    tuner = kft.FineTuner(task.build(kft.load_pretrained(quality.minilm_folder())))
    optimizer = keras.optimizers.AdamW(weight_decay=0.0, global_clipnorm=1.0, epsilon=1e-8)
    tuner.compile(optimizer, learning_rate=RATE, schedule="linear")
    tuner.fit(task.dataset(train, batch_size=chosen.batch_size), epochs=chosen.epochs, verbose=2)
    seconds = {"keras_finetune": round(time.perf_counter() - started, 1)}
    scores = {"keras_finetune": task.evaluate(tuner.model, test)}
    print(scores["keras_finetune"], flush=True)

    import hf_question_answering as peer

    started = time.perf_counter()
    model, tokenizer = peer.fine_tune(
        quality.minilm_folder(),
        list(train),
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        learning_rate=RATE,
        max_length=LENGTH,
        stride=STRIDE,
    )
    seconds["hf"] = round(time.perf_counter() - started, 1)
    answers = peer.predict(model, tokenizer, list(test), max_length=LENGTH, stride=STRIDE)
    references = [row["answers"]["text"] for row in test]
    scores["hf"] = kft.evaluation.squad_scores(answers, references, version="1.1")
    print(scores["hf"])
    result = {
        "benchmark": "quality_question_answering",
        "f1": {name: round(found.f1, 2) for name, found in scores.items()},
        "exact_match": {name: round(found.exact_match, 2) for name, found in scores.items()},
        "seconds": seconds,
        "train_questions": len(train),
        "test_questions": len(test),
        "settings": {
            "max_length": LENGTH,
            "stride": STRIDE,
            "learning_rate": RATE,
            "batch_size": chosen.batch_size,
            "epochs": chosen.epochs,
        },
        "inexact": dataclasses.asdict(scores["keras_finetune"])["inexact"],
        "machine": machine(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
