"""How near `FineTuner.estimate` comes to the fit that it tells of: MiniLM-L6 on AG News.

    python benchmarks/estimate.py [--data DIR] [--quick] [--rows N]

Three runs: all layers for 2 epochs, a frozen backbone for 5, its top two blocks for 5. Each is
estimated in one process and carried out in another, so that neither finds work of the other done.
The last line is JSON: estimated and measured seconds and peak memory, and their ratios.
"""

import json
import os
import subprocess
import sys
import time
from typing import Any

from side_by_side import machine, news, parse_arguments
from weights import minilm_folder

RUNS = {"all": 2, "head": 5, "top 2": 5}


def main() -> None:
    if sys.argv[1:] == ["--run"]:
        print(json.dumps(_run(*json.loads(sys.stdin.readline()))))
        return
    chosen = parse_arguments(__doc__.split("\n")[0], rows=2_048)
    samples = news(chosen.data, 512 if chosen.quick else chosen.rows)
    found = {}
    for train, epochs in RUNS.items():
        estimated, measured = (
            _in_a_process([how, train, epochs, samples]) for how in ("estimate", "fit")
        )
        found[train] = {
            "estimated": estimated,
            "measured": measured,
            "ratios": {name: round(estimated[name] / measured[name], 2) for name in measured},
        }
        print(f"{train}: {json.dumps(found[train])}", file=sys.stderr, flush=True)
    rows = len(samples["texts"])
    print(json.dumps({"benchmark": "estimate", "rows": rows, "runs": found, "machine": machine()}))


def _run(how: str, train: str, epochs: int, samples: dict[str, Any]) -> dict[str, float]:
    import keras

    import keras_finetune as kft
    from keras_finetune.tuning.memory import peak_memory

    keras.utils.set_random_seed(0)
    task = kft.tasks.TextClassification(samples["names"], max_length=128)
    tuner = kft.FineTuner(task.build(kft.load_pretrained(minilm_folder())))
    optimizer = keras.optimizers.AdamW(5e-5, global_clipnorm=1.0)
    tuner.compile(optimizer, precision="mixed_bfloat16")
    if train != "all":
        tuner.freeze("backbone")
    if train == "top 2":
        tuner.unfreeze("backbone", top=2)
    labels = [samples["names"][i] for i in samples["labels"]]
    data = task.dataset({"text": samples["texts"], "label": labels}, batch_size=32, seed=0)
    if how == "estimate":
        found = tuner.estimate(data, epochs=epochs)
        return {
            "seconds": round(found.seconds, 1),
            "peak_memory_gb": round(found.peak_memory_gb, 2),
        }
    started = time.perf_counter()
    tuner.fit(data, epochs=epochs, verbose=0)
    seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 1), "peak_memory_gb": round(peak_memory() / 1e9, 2)}


def _in_a_process(what: list[Any]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--run"],
        input=json.dumps(what) + "\n",
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.strip().split("\n")[-1])


if __name__ == "__main__":
    main()
