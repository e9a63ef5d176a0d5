"""What `jit_compile` is worth: all of MiniLM-L6 on AG News, with it and without, in turn.

    python benchmarks/jit_compile.py [--data DIR] [--quick] [--rows N] [--turns N]
                                     [--backends "tensorflow jax torch"]

On TensorFlow and JAX, XLA compiles the step as a whole, once for each width of batches; on PyTorch,
`torch.compile` does. A turn is an epoch over the same rows; the first, in which the step is
compiled, tells how long that takes, and is not counted. There are no peers: the interpreter that
runs this has the backends. The last line is JSON: the samples a second of each, their ratio, and
how many samples pay for compiling where that is the faster way.
"""

import json
import sys

from full_finetune import JOB
from side_by_side import contest, machine, news, parse_arguments, speeds

WAYS = ["fit_compiled", "fit_plain"]


def main() -> None:
    chosen = parse_arguments(
        __doc__.split("\n")[0], rows=512, turns=4, backends="tensorflow jax torch"
    )
    rows, turns = (256, 2) if chosen.quick else (chosen.rows, chosen.turns)
    job = news(chosen.data, rows) | JOB
    found = {}
    for backend in chosen.backends.split():
        said = contest(chosen.python or sys.executable, WAYS, job | {"backend": backend}, turns)
        compiled, plain = (speeds(said)[way] for way in WAYS)
        extra = said[WAYS[0]][0]["seconds"] - said[WAYS[1]][0]["seconds"]
        saved = 1 / plain - 1 / compiled
        found[backend] = {
            "samples_per_second": {"compiled": compiled, "plain": plain},
            "ratio": round(compiled / plain, 2),
            "first_turn_seconds": {way: said[way][0]["seconds"] for way in WAYS},
            "pays_after_samples": max(round(extra / saved), 0) if saved > 0 else None,
            "peak_memory_gb": {way: said[way][-1]["peak_memory_gb"] for way in WAYS},
            "loss": {way: round(said[way][-1]["loss"], 4) for way in WAYS},
        }
        print(f"{backend}: {json.dumps(found[backend])}", file=sys.stderr, flush=True)
    print(json.dumps({"benchmark": "jit_compile", "backends": found, "machine": machine()}))


if __name__ == "__main__":
    main()
