"""Measure the data part: encoding, the store's memory, an epoch's plan.

    python benchmarks/data.py [encode|store|plan|all] [--rows N]

Texts are drawn from the words of the docstrings of installed packages, so that nothing is
downloaded. The last line is JSON.

- encode: `Tokenizer.encode_batch`, which returns arrays of ids, and `encode_batch` of the
  `tokenizers` library, which returns its own objects, in turn on the same 100,000 texts. Bar: at
  most 1.2 times as long, in medians.
- store: texts are encoded, stored and read once in shuffled order through `tf.data`, in a process
  of its own; its greatest resident size after building and after reading (TensorFlow included), at
  2,000,000 rows and at a quarter. Bar: under 1.5 GB, and as much at both.
- plan: `make_plan` for 2,000,000 rows. Bar: under 2 s.
"""

import argparse
import ast
import collections
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from keras_finetune.data import Ragged, Tokenizer, build_store, make_dataset, make_plan

CHUNK = 10_000


class Words:
    """Words of docstrings, drawn as often as they occur there."""

    def __init__(self) -> None:
        found: collections.Counter[str] = collections.Counter()
        paths = sysconfig.get_paths()
        files = [*Path(paths["stdlib"]).glob("*.py"), *Path(paths["purelib"]).glob("numpy/*/*.py")]
        for path in files:
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    found.update(re.findall(r"\w+|[^\w\s]", ast.get_docstring(node) or ""))
        self._words = np.array(list(found))
        counts = np.array(list(found.values()))
        self._share = np.cumsum(counts) / counts.sum()

    def texts(self, rows: int, seed: int) -> list[str]:
        """Texts of 3 to 60 words, 17 or so on average."""
        rng = np.random.default_rng(seed)
        lengths = rng.lognormal(2.6, 0.6, rows).astype(int).clip(3, 60)
        drawn = self._words[np.searchsorted(self._share, rng.random(lengths.sum()))]
        return [" ".join(part) for part in np.split(drawn, np.cumsum(lengths)[:-1])]


def encode(rows: int, repeats: int = 5) -> dict[str, object]:
    import tokenizers

    texts = Words().texts(rows, seed=0)
    result: dict[str, object] = {"rows": rows}
    for kind in ("bpe", "wordpiece"):
        ours = Tokenizer.train(texts[:20_000], vocab_size=8_000, kind=kind, progress=False)
        with tempfile.TemporaryDirectory() as folder:
            ours.save(folder)
            theirs = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        cpu_seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        for turn in range(repeats + 1):
            for name, tokenizer in (("ours", ours), ("theirs", theirs)):
                started, cpu_started = time.perf_counter(), time.process_time()
                encoded = tokenizer.encode_batch(texts)
                if turn:  # The first turn fills caches.
                    seconds[name].append(time.perf_counter() - started)
                    cpu_seconds[name].append(time.process_time() - cpu_started)
                del encoded
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        ratio = medians["ours"] / medians["theirs"]
        # On a machine that others use, too, this one says more.
        cpu_ratio = statistics.median(cpu_seconds["ours"]) / statistics.median(
            cpu_seconds["theirs"]
        )
        result[kind] = {**medians, "ratio": ratio, "cpu_ratio": cpu_ratio}
        print(
            f"encode, {kind}, {rows:,} texts: {medians['ours']:.2f} s; tokenizers "
            f"{medians['theirs']:.2f} s; ratio {ratio:.2f} (bar 1.20), in processor time "
            f"{cpu_ratio:.2f}; {repeats} turns at a load of {os.getloadavg()[0]:.1f}"
        )
    return result


def store(rows: int) -> dict[str, object]:
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: training takes more memory than what is measured.
        _subprocess("_tokenizer", 20_000, folder)
        for size in (rows // 4, rows):
            run = _subprocess("_store", size, folder)
            runs.append(run)
            print(
                f"store, {size:,} rows, {run['bytes'] / 2**20:,.0f} MiB on disk: peak resident "
                f"{run['start_mib']:,.0f} MiB before the first row, {run['build_mib']:,.0f} when "
                f"built, {run['peak_mib']:,.0f} when read with TensorFlow (bar 1,536); built in "
                f"{run['build_s']:.0f} s, read in {run['read_s']:.0f} s"
            )
    more = {
        name: runs[1][f"{name}_mib"] - runs[0][f"{name}_mib"] for name in ("start", "build", "peak")
    }
    print(
        f"store, with four times the rows: {more['build']:+,.0f} MiB when built, "
        f"{more['peak']:+,.0f} when read"
    )
    return {"runs": runs, "more_mib": more}


def _subprocess(part: str, rows: int, folder: str) -> dict[str, float]:
    command = [sys.executable, __file__, part, "--rows", str(rows), "--folder", folder]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return found


def _tokenizer(rows: int, folder: str) -> dict[str, float]:
    texts = Words().texts(rows, seed=0)
    Tokenizer.train(texts, vocab_size=8_000, progress=False).save(folder)
    return {}


def _store(rows: int, folder: str) -> dict[str, float]:
    words = Words()
    tokenizer = Tokenizer.load(folder)
    start_mib = _peak_mib()

    def chunks() -> Iterator[dict[str, np.ndarray | Ragged]]:
        for number, start in enumerate(range(0, rows, CHUNK)):
            count = min(CHUNK, rows - start)
            encoded = tokenizer.encode_batch(words.texts(count, seed=number), max_length=64)
            labels = np.arange(start, start + count) % 4
            yield {"token_ids": Ragged(encoded.token_ids, encoded.offsets), "label": labels}

    started = time.perf_counter()
    built = build_store(
        f"{folder}/store-{rows}", "key", chunks, description=f"Encoding {rows:,}", total=rows
    )
    build_s = time.perf_counter() - started
    build_mib = _peak_mib()
    started = time.perf_counter()
    dataset = make_dataset(
        built,
        lambda batch, rng: ((batch["token_ids"], batch["padding_mask"]), batch["label"]),
        batch_size=256,
        shuffle=True,
    )
    seen = sum(len(label) for _, label in dataset)
    if seen != rows:
        raise RuntimeError(f"{seen} of {rows} rows were read")
    return {
        "rows": rows,
        "bytes": sum(path.stat().st_size for path in built.path.iterdir()),
        "start_mib": start_mib,
        "build_mib": build_mib,
        "peak_mib": _peak_mib(),
        "build_s": build_s,
        "read_s": time.perf_counter() - started,
    }


def _peak_mib() -> float:
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def plan(rows: int, repeats: int = 5) -> dict[str, object]:
    lengths = np.random.default_rng(0).lognormal(3.5, 0.8, rows).astype(int).clip(1, 512)
    settings = {
        "shuffled": {},
        "tokens_per_batch": {"tokens_per_batch": 4_096},
        "in_order": {"shuffle": False},
    }
    result: dict[str, object] = {"rows": rows}
    for name, arguments in settings.items():
        seconds = []
        for epoch in range(repeats):
            started = time.perf_counter()
            made = make_plan(lengths, epoch=epoch, **arguments)
            seconds.append(time.perf_counter() - started)
        result[name] = {"seconds": max(seconds), "padding_share": made.padding_share}
        print(
            f"plan, {name}, {rows:,} rows: {max(seconds):.2f} s at most of {repeats} (bar 2.00); "
            f"{made.num_steps:,} steps, {made.padding_share:.1%} padding"
        )
    return result


# The store comes first: a process's peak size starts from its parent's.
PARTS = {"store": (store, 2_000_000), "plan": (plan, 2_000_000), "encode": (encode, 100_000)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    inner = {"_store": _store, "_tokenizer": _tokenizer}
    parser.add_argument(
        "part",
        nargs="?",
        default="all",
        choices=[*PARTS, "all", *inner],
        metavar="|".join([*PARTS, "all"]),
    )
    parser.add_argument("--rows", type=int, help="in place of each part's own number")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.part in inner:
        print(json.dumps(inner[chosen.part](chosen.rows, chosen.folder)))
        return
    names = list(PARTS) if chosen.part == "all" else [chosen.part]
    results = {name: PARTS[name][0](chosen.rows or PARTS[name][1]) for name in names}
    print(json.dumps({"benchmark": "data", "cpus": os.cpu_count(), **results}))


if __name__ == "__main__":
    main()
