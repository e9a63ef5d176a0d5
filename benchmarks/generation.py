"""Tokens a second of greedy generation: this library, Hugging Face and KerasHub on SmolLM2-135M.

    python benchmarks/generation.py [--quick] [--turns N] [--dtype DTYPE] [--python PYTHON]

All continue the same prompts by the same number of tokens, alone and eight at a time, in float32
(or bfloat16, weights included) on two threads, each with its cache of keys and values; no token
ends a text. What compiles does so in the first turn, which is not counted. KerasHub's Llama gets
the same weights. The last line is JSON, and says whether all gave the same tokens.
"""

import json
import sys

from side_by_side import contest, machine, parse_arguments, peers_python, speeds

NAMES = ["generate_ours", "generate_hf", "generate_kerashub"]


def main() -> None:
    chosen = parse_arguments(__doc__.split("\n")[0], turns=4, tokens=64, dtype="float32")
    turns, tokens = (2, 32) if chosen.quick else (chosen.turns, chosen.tokens)
    names = [NAMES[0], *(f"generate_{name}" for name in chosen.only or ("hf", "kerashub"))]
    python = peers_python(chosen.python)
    found = {}
    for batch in (1, 8):
        job = {"batch": batch, "tokens": tokens, "dtype": chosen.dtype}
        said = contest(python, names, job, turns)
        speed = speeds(said)
        ours = speed[NAMES[0]]
        first = said[NAMES[0]][-1]["ids"]
        found[f"batch_{batch}"] = {
            "tokens_per_second": {name.removeprefix("generate_"): x for name, x in speed.items()},
            "ratios": {
                name.removeprefix("generate_"): round(ours / x, 2)
                for name, x in speed.items()
                if name != NAMES[0]
            },
            "same_tokens": {
                name.removeprefix("generate_"): turn[-1]["ids"] == first
                for name, turn in said.items()
            },
            "first_turn_seconds": {
                name.removeprefix("generate_"): round(turn[0]["seconds"], 1)
                for name, turn in said.items()
            },
        }
        print(json.dumps(found), file=sys.stderr, flush=True)
    print(
        json.dumps(
            {"benchmark": "generation", "dtype": chosen.dtype, **found, "machine": machine()}
        )
    )


if __name__ == "__main__":
    main()
