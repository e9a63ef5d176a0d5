"""Turn AG News into batches: this library, KerasHub's preprocessor, and `datasets` in turn.

    python benchmarks/pipeline.py [--data DIR] [--quick] [--rows N] [--turns N]

A turn is three epochs over the same texts, from nothing: tokenizing, what is stored, and reading
batches of 32 with at most 128 tokens as NumPy arrays or tensors. The median turn after the first
counts. The last line is JSON.
"""

from side_by_side import contest, news, parse_arguments, peers_python, report

PEERS = ["kerashub_preprocessor", "hf_datasets"]


def main() -> None:
    chosen = parse_arguments(__doc__.split("\n")[0], rows=14_000, turns=4)
    rows, turns = (4_000, 3) if chosen.quick else (chosen.rows, chosen.turns)
    job = {**news(chosen.data, rows), "batch_size": 32, "max_length": 128, "epochs": 3}
    names = ["keras_finetune_pipeline", *(n for n in PEERS if not chosen.only or n in chosen.only)]
    found = contest(peers_python(chosen.python), names, job, turns)
    found["keras_finetune"] = found.pop("keras_finetune_pipeline")
    report("pipeline", found, rows=rows, epochs=3)


if __name__ == "__main__":
    main()
