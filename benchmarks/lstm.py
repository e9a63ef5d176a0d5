"""Train the Embedding+LSTM baseline on AG News: this library, plain Keras and PyTorch in turn.

    python benchmarks/lstm.py [--data DIR] [--quick] [--rows N] [--turns N] [--width N]
        [--backend NAME]

Batches of 32, at most 128 tokens, Adam at 1e-3 with gradients clipped at norm 1, float32, two
threads. A turn is an epoch over the same rows; the first is not counted. The backend is Keras's,
`tensorflow` or `torch`. The last line is JSON.
"""

from side_by_side import contest, news, parse_arguments, peers_python, report

PEERS = ["keras_lstm", "torch_lstm"]


def main() -> None:
    chosen = parse_arguments(
        __doc__.split("\n")[0], rows=8_000, turns=4, width=128, backend="tensorflow"
    )
    rows, turns = (2_000, 3) if chosen.quick else (chosen.rows, chosen.turns)
    job = {
        **news(chosen.data, rows),
        "vocab_size": 20_000,
        "width": chosen.width,
        "batch_size": 32,
        "max_length": 128,
        "learning_rate": 1e-3,
        "backend": chosen.backend,
    }
    names = ["keras_finetune_lstm", *(n for n in PEERS if not chosen.only or n in chosen.only)]
    found = contest(peers_python(chosen.python), names, job, turns)
    found["keras_finetune"] = found.pop("keras_finetune_lstm")
    report("lstm", found, rows=rows, width=chosen.width, backend=chosen.backend)


if __name__ == "__main__":
    main()
