"""A contestant's process: one of this library or its peers, at a job that all of them get.

Run by `side_by_side.py`: `python contestants.py NAME`, a job as a line of JSON on standard input,
then a line for each turn. NAME is a generator of one of the modules `*_contestants.py`. It prepares
itself up to its first yield, and does one turn between two yields; it yields what is to be said of
the turn.
"""

import json
import resource
import sys
import time

import generation_contestants
import gpu_contestants
import lstm_contestants
import news_contestants
import pipeline_contestants
import quality_contestants

MODULES = [
    generation_contestants,
    gpu_contestants,
    lstm_contestants,
    news_contestants,
    pipeline_contestants,
    quality_contestants,
]


def main() -> None:
    answer, sys.stdout = sys.stdout, sys.stderr  # What else is printed must not be read as answers.
    name = sys.argv[1]
    contestant = next((vars(x)[name] for x in MODULES if name in vars(x)), None)
    if contestant is None:
        raise SystemExit(f"No module of {[x.__name__ for x in MODULES]} has a contestant {name!r}.")
    turns = contestant(json.loads(sys.stdin.readline()))
    said = next(turns)
    while True:
        said["peak_memory_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
        print(json.dumps(said), file=answer, flush=True)
        if not sys.stdin.readline():
            return
        started = time.perf_counter()
        said = next(turns)
        said["seconds"] = round(time.perf_counter() - started, 2)


if __name__ == "__main__":
    main()
