"""Fine-tune on a GPU: this library on JAX, and Hugging Face's loop in PyTorch, in turn.

    python benchmarks/gpu.py [--data DIR] [--quick] [--rows N] [--turns N] [--batch-size N]
                             [--run NAME]

`full`: all of MiniLM-L6 on AG News, at most 128 tokens, rows of similar length in a batch.
`lora`: SmolLM2-135M goes on learning from AG News in rows of 512 tokens, with LoRA of 645,120
weights on its queries, keys and values.

Both compute in bfloat16, with AdamW and gradients clipped at norm 1. A turn is an epoch over the
same rows, each time on from the one before; the first, in which graphs are compiled, is not
counted. Model FLOP utilisation counts the products of real tokens alone, those of attention too,
and none that is done twice. The last line is JSON.

It needs JAX and PyTorch with CUDA, and Hugging Face's `peft`; give `--python`.
"""

import subprocess
from typing import Any

from side_by_side import contest, news, parse_arguments, peers_python, report, speeds

# Dense bfloat16, of the data sheets.
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
JOBS: dict[str, dict[str, Any]] = {
    "full": {"max_length": 128, "batch_size": 32},
    "lora": {"max_length": 512, "batch_size": 8},
}
NAMES = {
    "full": ["keras_finetune_gpu", "hf_gpu", "hf_gpu_compiled"],
    "lora": ["keras_finetune_lora", "hf_lora"],
}


def main() -> None:
    chosen = parse_arguments(
        __doc__.split("\n")[0], rows=8_192, turns=3, batch_size=0, run="full lora"
    )
    rows, turns = (1_024, 2) if chosen.quick else (chosen.rows, chosen.turns)
    samples, gpu = news(chosen.data, rows), _gpu()
    found, runs = {}, {}
    for run in chosen.run.split():
        job = {
            **samples,
            **JOBS[run],
            "backend": "jax",
            "train": "all",
            "epochs": 1,
            "afresh": False,
        }
        job["batch_size"] = chosen.batch_size or job["batch_size"]
        names = [n for n in NAMES[run] if not chosen.only or n in [NAMES[run][0], *chosen.only]]
        said = contest(peers_python(chosen.python), names, job, turns)
        found[run] = {"keras_finetune": said.pop(names[0]), **said}
        speed = speeds(found[run])
        runs[run] = {
            "batch_size": job["batch_size"],
            "samples_per_second": speed,
            "ratios": {n: round(speed["keras_finetune"] / x, 2) for n, x in speed.items()},
            "loss": {n: round(x[-1]["loss"], 4) for n, x in found[run].items()},
            "gpu_memory_gb": {n: x[-1]["gpu_memory_gb"] for n, x in found[run].items()},
            "flop_utilisation": _utilisations(run, gpu, found[run]),
            "turns": {n: [x["seconds"] for x in turns] for n, turns in found[run].items()},
        }
    first = next(iter(runs))
    report(
        "gpu",
        found[first],
        samples_per_second=runs[first]["samples_per_second"],
        rows=rows,
        gpu=gpu,
        runs=runs,
    )


def _utilisations(run: str, gpu: str, found: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """The share of the GPU's peak that the model's own products made up, of each contestant.

    A product of a token with a matrix of n weights is 2n operations forwards and 2n backwards, and
    2n more for the gradient of a matrix that is trained. Attention multiplies each token's queries
    with the keys of its row, and the weights with the values: 4 * length * width operations a
    layer, and twice that backwards.
    """
    peak = next((x for name, x in PEAK_FLOPS.items() if name in gpu), None)
    counted = next((said[-1] for said in found.values() if "tokens" in said[-1]), None)
    if peak is None or counted is None:
        return {}
    if run == "full":  # 6 layers of width 384 and 1,536.
        weights, layers, width, passes = 6 * (4 * 384**2 + 2 * 384 * 1536), 6, 384, 6
    else:  # 30 layers of width 576 and 1,536, 192 for keys and values, and 49,152 words.
        block = 2 * 576**2 + 2 * 576 * 192 + 3 * 576 * 1536
        weights, layers, width, passes = 30 * block + 576 * 49_152, 30, 576, 4
    products = passes * weights * counted["tokens"]
    attention = 12 * layers * width * counted["token_pairs"]
    each = (products + attention) / counted["samples"]
    return {name: round(each * speed / peak, 4) for name, speed in speeds(found).items()}


def _gpu() -> str:
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
