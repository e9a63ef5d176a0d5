"""Fine-tune all of MiniLM-L6 on AG News: this library, KerasHub and Hugging Face in turn.

    python benchmarks/full_finetune.py [--data DIR] [--quick] [--rows N] [--turns N]
        [--backend NAME]

Batches of 32, at most 128 tokens, AdamW at 5e-5 with gradients clipped at norm 1, two threads. A
turn is an epoch over the same rows, each time on from the one before; the first, in which graphs
are traced, is not counted. Losses are those of the last epoch, so that nobody is fast by not
training. All compute in bfloat16, but for `kerashub_fit`, which is what KerasHub's guide shows. The
backend is Keras's, `tensorflow` or `torch`, for this library and KerasHub. The last line is JSON.
"""

from side_by_side import contest, news, parse_arguments, peers_python, report

JOB = {"train": "all", "batch_size": 32, "max_length": 128, "epochs": 1, "afresh": False}
NAMES = ["keras_finetune", "kerashub_fit", "kerashub_bf16", "hf_dynamic", "hf_grouped"]


def main() -> None:
    chosen = parse_arguments(__doc__.split("\n")[0], rows=2_048, turns=3, backend="tensorflow")
    rows, turns = (512, 2) if chosen.quick else (chosen.rows, chosen.turns)
    job = news(chosen.data, rows) | JOB | {"backend": chosen.backend}
    names = [n for n in NAMES if not chosen.only or n in ["keras_finetune", *chosen.only]]
    turns = contest(peers_python(chosen.python), names, job, turns)
    first = {name: said[0]["first_step_seconds"] for name, said in turns.items()}
    report("full_finetune", turns, rows=rows, first_step_seconds=first, backend=chosen.backend)


if __name__ == "__main__":
    main()
