"""How long steps take, and frozen layers, for an estimate."""

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import keras

from keras_finetune.tuning.data_kinds import FitData
from keras_finetune.tuning.frozen_prefix import cut_model, make_prefix, prefix_inputs
from keras_finetune.tuning.prefix_cache import PrefixCache
from keras_finetune.tuning.prefix_choice import count_tokens, plan_cache
from keras_finetune.tuning.prefix_cut import PrefixCut
from keras_finetune.tuning.prefix_rows import Block
from keras_finetune.tuning.sample import repeated

# Blocks of frozen layers' rows that are timed.
_TIMED_BLOCKS = 8


class StepTimer(keras.callbacks.Callback):
    """Note when steps of `fit` and of its validation end.

    Args:
        at_once: int, steps of an execution.

    Attributes:
        epochs: Seconds of each epoch.
    """

    def __init__(self, at_once: int) -> None:
        super().__init__()
        self.epochs: list[float] = []
        self._at_once = at_once
        self._ends: list[float] = []
        self._test_ends: list[float] = []
        self._tests = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begin anew."""
        self._began, self._ends, self._test_ends, self._tests = time.perf_counter(), [], [], 0.0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch's time."""
        self.epochs.append(time.perf_counter() - self._began)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Note the end of an execution."""
        self._ends.append(time.perf_counter())

    def on_test_begin(self, logs: Any = None) -> None:
        """Note that validation begins."""
        self._tests -= time.perf_counter()

    def on_test_end(self, logs: Any = None) -> None:
        """Note that validation ends."""
        self._tests += time.perf_counter()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Note the end of a step of validation."""
        self._test_ends.append(time.perf_counter())

    def seconds_of_a_step(self) -> float:
        """Seconds of a step, in the latest epoch, after its first execution."""
        return self._between(self._ends)

    def seconds_of_a_test_step(self) -> float:
        """Likewise, of a step of validation."""
        return self._between(self._test_ends)

    def overhead(self) -> float:
        """What an epoch takes besides its steps and its validation."""
        steps = len(self._ends) * self._at_once
        return max(self.epochs[-1] - self._tests - self.seconds_of_a_step() * steps, 0.0)

    def _between(self, ends: list[float]) -> float:
        return (ends[-1] - ends[0]) / ((len(ends) - 1) * self._at_once) if len(ends) > 1 else 0.0


def time_prefix(
    cut: PrefixCut, sample: FitData, cache: PrefixCache, epochs: int
) -> tuple[float, float]:
    """Run frozen layers on a sample once, and time some of its rows.

    Args:
        cut: Above the frozen layers.
        sample: From `sample_data`.
        cache: Keeps what the layers give, for a fit on the sample.
        epochs: int, of that fit.

    Returns:
        Seconds that all take once, whatever the rows, and seconds for each token.
    """
    once = replace(sample, validation_data=None)
    # Most widths have whole batches in rows that come twice, as they have among all rows.
    sampled, twice = (
        plan_cache(cut, data, cache.folder, epochs, asked=True)
        for data in (once, repeated(once, 2))
    )
    if isinstance(sampled, str) or isinstance(twice, str):
        return 0.0, 0.0
    started = time.perf_counter()
    with cut_model(cut.graph.model, cut):
        cache.dataset(cut, sampled.rows, "train", progress=False)
    whole = time.perf_counter() - started
    some = islice(twice.rows.blocks(), 0, None, -(-twice.rows.num_blocks // _TIMED_BLOCKS))
    of_a_token = _seconds_of_a_token(cut, list(some))
    return max(whole - of_a_token * sampled.tokens, 0.0), of_a_token


def _seconds_of_a_token(cut: PrefixCut, blocks: Sequence[Block]) -> float:
    prefix = make_prefix(cut)
    inputs = [prefix_inputs(cut, block.x) for block in blocks]
    for each in {tuple(x[name].shape for name in sorted(x)): x for x in inputs}.values():
        prefix.run(each)  # Traces and compiles.
    started = time.perf_counter()
    for each in inputs:
        prefix.run(each)
    seconds = time.perf_counter() - started
    return seconds / sum(count_tokens(block.x, block.lengths) for block in blocks)
