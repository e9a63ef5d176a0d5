"""Time of an epoch and peak memory at 10,000, 100,000 and 1,000,000 rows.

    python benchmarks/scaling.py [--data DIR] [--quick] [--sizes N ...]

AG News, repeated into a CSV file, is encoded into a store and trained on for an epoch, by a model
that is small, so that the data part counts: Embedding+LSTM of width 16, batches of 256. Each size
has a process of its own, whose peak memory is taken. The last line is JSON: time should grow with
the rows, memory should not.
"""

import argparse
import csv
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from side_by_side import machine, news

SIZES, QUICK = [10_000, 100_000, 1_000_000], [10_000, 30_000, 100_000]


def measure(file: Path, rows: int) -> dict[str, float]:
    """Encode a file and train on it, in this process."""
    import keras

    import keras_finetune as kft

    keras.utils.set_random_seed(0)
    tokenizer = kft.data.Tokenizer.load(file.parent / "tokenizer.json")
    task = kft.tasks.TextClassification(["0", "1", "2", "3"], tokenizer, max_length=128)
    backbone = kft.models.lstm_encoder(tokenizer.vocab_size, hidden_dim=16, dropout=0.0)
    tuner = kft.FineTuner(task.build(backbone))
    started = time.perf_counter()
    data = task.dataset(kft.data.read(file), batch_size=256)
    encoded = time.perf_counter()
    tuner.fit(data, verbose=0)
    compiled = time.perf_counter()
    tuner.fit(data, verbose=0)
    return {
        "rows": rows,
        "encode_seconds": round(encoded - started, 2),
        "epoch_seconds": round(time.perf_counter() - compiled, 2),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default=os.environ.get("KERAS_FINETUNE_DATA"), help="data folder")
    parser.add_argument("--quick", action="store_true", help="fewer rows, within 6 minutes")
    parser.add_argument("--sizes", nargs="+", type=int)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        print(json.dumps(measure(Path(chosen.measure[0]), int(chosen.measure[1]))))
        return
    sizes = chosen.sizes or (QUICK if chosen.quick else SIZES)
    with tempfile.TemporaryDirectory() as folder:
        found = [_in_a_process(Path(folder), chosen.data, size) for size in sizes]
    first, last = found[0], found[-1]
    print(
        json.dumps(
            {
                "benchmark": "scaling",
                "sizes": found,
                "rows_ratio": last["rows"] / first["rows"],
                "epoch_ratio": round(last["epoch_seconds"] / first["epoch_seconds"], 2),
                "encode_ratio": round(last["encode_seconds"] / first["encode_seconds"], 2),
                "memory_ratio": round(last["peak_memory_gb"] / first["peak_memory_gb"], 2),
                "machine": machine(),
            }
        )
    )


def _in_a_process(folder: Path, data: str | None, size: int) -> dict[str, float]:
    import keras_finetune as kft

    rows = news(data, 14_000)
    if not (folder / "tokenizer.json").exists():
        trained = kft.data.Tokenizer.train(rows["texts"], 8_000, "wordpiece", progress=False)
        trained.save(folder / "tokenizer.json")
    file = folder / "rows.csv"
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["text", "label"])
        pairs = itertools.cycle(zip(rows["texts"], rows["labels"], strict=True))
        # Each row differs, so that nothing is encoded once for many.
        chosen = itertools.islice(enumerate(pairs), size)
        writer.writerows([f"{i} {text}", label] for i, (text, label) in chosen)
    command = [sys.executable, __file__, "--measure", str(file), str(size)]
    environment = os.environ | {"KERAS_FINETUNE_CACHE": str(folder / "cache")}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.strip().split("\n")[-1])
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
