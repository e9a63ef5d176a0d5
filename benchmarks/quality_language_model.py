"""Validation loss of a character model on tinyshakespeare, and the same model in PyTorch.

    python benchmarks/quality_language_model.py [--quick] [--data DIR] [--python PYTHON]

The setting is that of nanoGPT's README for a CPU, whose loss is 1.88: 4 layers, 4 heads, 128 wide,
64 characters, batches of 12, 2,000 steps. Each contestant trains once, in a process of its own, and
then computes the loss of the whole validation part. Its seconds are those from the encoded text to
the trained model, tracing and compiling included. The last line is JSON.
"""

import gzip
import json
from pathlib import Path

from side_by_side import contest, machine, parse_arguments, peers_python

NAMES = ["language_model_ours", "language_model_torch"]
FOLDER = "language_model/tinyshakespeare"
JOB = {"length": 64, "batch_size": 12, "layers": 4, "heads": 4, "width": 128, "steps": 2_000}


def main() -> None:
    chosen = parse_arguments(__doc__.split("\n")[0])
    file = Path(chosen.data or "") / FOLDER / "input.txt.gz"
    if not chosen.data or not file.exists():
        raise SystemExit(f"There is no {file}. Give --data DIR, or set KERAS_FINETUNE_DATA.")
    text = gzip.decompress(file.read_bytes()).decode()
    parts = {"train": text[: len(text) * 9 // 10], "validation": text[len(text) * 9 // 10 :]}
    job = JOB | ({"steps": 200} if chosen.quick else {}) | parts
    said = contest(peers_python(chosen.python), NAMES, job, turns=1)
    found = {name.removeprefix("language_model_"): turns[0] for name, turns in said.items()}
    result = {
        "benchmark": "quality_language_model",
        "loss": {name: round(turn["loss"], 4) for name, turn in found.items()},
        "fit_seconds": {name: turn["fit_seconds"] for name, turn in found.items()},
        "settings": JOB | {"steps": job["steps"]},
        "machine": machine(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
