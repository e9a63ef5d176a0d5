"""Fine-tune MiniLM-L6 on AG News with its backbone frozen, in whole or but for two blocks.

    python benchmarks/frozen.py [--data DIR] [--quick] [--rows N] [--run NAME] [--only NAME ...]

As `full_finetune.py`, but a turn is a whole run from the pretrained weights, tracing and making
caches included: 5 epochs and 20 epochs with all of the backbone frozen, and 5 epochs with its top
two blocks trainable. The last line is JSON.
"""

from side_by_side import contest, news, parse_arguments, peers_python, report

RUNS = {
    "frozen, 5 epochs": ("head", 5),
    "frozen, 20 epochs": ("head", 20),
    "top 2 blocks, 5 epochs": ("top 2", 5),
}
NAMES = ["keras_finetune", "hf_grouped"]


def main() -> None:
    chosen = parse_arguments(__doc__.split("\n")[0], rows=4_096, run="")
    asked = {name: run for name, run in RUNS.items() if name.startswith(chosen.run)}
    if not asked:
        raise SystemExit(f"--run must begin one of: {'; '.join(RUNS)}. Received: {chosen.run}")
    rows = 1_024 if chosen.quick else chosen.rows
    python, samples = peers_python(chosen.python), news(chosen.data, rows)
    names = [n for n in NAMES if not chosen.only or n in ["keras_finetune", *chosen.only]]
    turns, found, runs = {}, {}, {}
    for name, (train, epochs) in asked.items():
        job = {
            **samples,
            "train": train,
            "batch_size": 32,
            "max_length": 128,
            "epochs": epochs,
            "afresh": True,
        }
        turns[name] = contest(python, names, job, 1)
        said = {contestant: only for contestant, (only,) in turns[name].items()}
        found[name] = {n: round(x["samples"] / x["seconds"], 1) for n, x in said.items()}
        runs[name] = {
            "ratio": {
                n: round(found[name]["keras_finetune"] / x, 2) for n, x in found[name].items()
            },
            "loss": {n: round(x["loss"], 4) for n, x in said.items()},
            "peak_memory_gb": {n: x["peak_memory_gb"] for n, x in said.items()},
        }
    first = next(iter(asked))
    report("frozen", turns[first], samples_per_second=found[first], rows=rows, runs=runs)


if __name__ == "__main__":
    main()
