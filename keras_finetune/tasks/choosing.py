"""Which pretrained model, and which of its layers, suits one's own labels."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from rich.markup import escape
from rich.table import Table

from keras_finetune.data import read, split
from keras_finetune.evaluation import log_evidence, probe_accuracy
from keras_finetune.models import MaskedPooling, TransformerBlock
from keras_finetune.models.features import backbone_padding_mask
from keras_finetune.pretrained import load_pretrained
from keras_finetune.tasks.text_classification import TextClassification

# Weights, their gradients and AdamW's two moments, in float32.
_BYTES_TO_TRAIN = 16


@dataclass(frozen=True)
class PretrainedScore:
    """What one layer of one pretrained model is worth.

    Attributes:
        name: The candidate.
        layer: The block whose features these are, `"block_3"`.
        log_evidence: LogME of the features, a row; greater is better.
        probe_accuracy: Accuracy of a linear probe on rows that it was not fitted to.
        parameters: Of the whole backbone.
        gigabytes: Memory to fine-tune all of it with AdamW in float32, without activations.
        rows_per_second: Forward passes on this machine.
    """

    name: str
    layer: str
    log_evidence: float
    probe_accuracy: float
    parameters: int
    gigabytes: float
    rows_per_second: float


@dataclass(frozen=True)
class PretrainedScores:
    """Candidates and their layers, the best first.

    Attributes:
        rows: A `PretrainedScore` a layer, by LogME.
    """

    rows: tuple[PretrainedScore, ...]

    def best_layers(self) -> list[PretrainedScore]:
        """Return the best layer of every candidate, the best first."""
        found: dict[str, PretrainedScore] = {}
        for row in self.rows:
            found.setdefault(row.name, row)
        return list(found.values())

    def table(self, *, all_layers: bool = False) -> Table:
        """Make a table of every candidate's best layer, or of all layers; `rich.print` shows it."""
        table = Table(title="Pretrained models on your labels")
        for heading in ("Model", "Layer"):
            table.add_column(heading)
        for heading in ("LogME", "Probe", "Parameters", "GB to train", "Rows/s"):
            table.add_column(heading, justify="right")
        for row in self.rows if all_layers else self.best_layers():
            table.add_row(
                escape(row.name),
                escape(row.layer),
                f"{row.log_evidence:.4f}",
                f"{row.probe_accuracy:.1%}",
                f"{row.parameters / 1e6:.1f} M",
                f"{row.gigabytes:.2f}",
                f"{row.rows_per_second:.0f}",
            )
        return table


def compare_pretrained(
    candidates: Sequence[Any],
    task: TextClassification,
    examples: Any,
    *,
    max_rows: int = 2_000,
    batch_size: int = 32,
    seed: int = 0,
) -> PretrainedScores:
    """Rank pretrained models, and their layers, on labelled examples without fine-tuning.

    Each model computes features of the examples once; every block's, averaged over a text's
    tokens, are scored by LogME ([You et al., 2021](https://arxiv.org/abs/2102.11005)), which goes
    by how well fine-tuned models do, and by a linear probe
    ([Alain and Bengio, 2016](https://arxiv.org/abs/1610.01644)).

    Args:
        candidates: What `load_pretrained` takes, or backbones that it returned.
        task: Says the labels, the columns and `max_length`; each candidate uses its own tokenizer.
        examples: Labelled examples, as for the task's `dataset`.
        max_rows: Rows that are drawn from the examples, stratified, if there are more.
        batch_size: int, rows in a batch.
        seed: int; decides which rows are drawn.

    Returns:
        The scores; `rich.print(scores.table())` shows them.

    Raises:
        ValueError: There is no candidate, one has no tokenizer, or the task is multi-label.

    Example:
        >>> import tempfile
        >>> import keras_finetune as kft
        >>> rows = {"text": ["good film", "bad film"] * 8, "label": ["pos", "neg"] * 8}
        >>> tokenizer = kft.data.Tokenizer.train(rows["text"], vocab_size=300, progress=False)
        >>> backbone = kft.models.transformer_encoder(tokenizer.vocab_size, 2, 2, 16)
        >>> path = kft.save_pretrained(backbone, tempfile.mkdtemp() + "/m", tokenizer=tokenizer)
        >>> task = kft.tasks.TextClassification(["neg", "pos"], max_length=16)
        >>> scores = compare_pretrained([path], task, rows)
        >>> sorted(row.layer for row in scores.rows)
        ['block_0', 'block_1']
    """
    if isinstance(candidates, str) or not candidates:
        raise ValueError(f"candidates must be a list of models or paths. Received: {candidates!r}")
    if task.multi_label:
        raise ValueError("compare_pretrained needs one label a text; the task has multi_label=True")
    examples = read(examples)
    if len(examples) > max_rows:
        drawn = split(examples, 0, max_rows, stratify=task.label, seed=seed)
        examples = drawn.test
    rows: list[PretrainedScore] = []
    for number, candidate in enumerate(candidates):
        given = isinstance(candidate, keras.Model)
        backbone = candidate if given else load_pretrained(candidate)
        name = f"{backbone.name} ({number})" if given else str(candidate).rstrip("/")
        rows += _scores(name, backbone, task, examples, batch_size)
    rows.sort(key=lambda row: row.log_evidence, reverse=True)
    return PretrainedScores(tuple(rows))


def _scores(
    name: str, backbone: keras.Model, task: TextClassification, examples: Any, batch_size: int
) -> list[PretrainedScore]:
    tokenizer = getattr(backbone, "tokenizer", None)
    if tokenizer is None:
        raise ValueError(f"{name} has no tokenizer, so that it cannot read the examples.")
    segments = isinstance(backbone.input, dict) and "segment_ids" in backbone.input
    settings = {**task.get_config(), "segment_ids": segments}
    data = TextClassification(tokenizer=tokenizer, **settings).dataset(
        examples, batch_size=batch_size, shuffle=False
    )
    blocks = [layer for layer in backbone.layers if isinstance(layer, TransformerBlock)]
    mask = backbone_padding_mask(backbone)
    pooled = [MaskedPooling("mean")(block.output, padding_mask=mask) for block in blocks]
    model = keras.Model(backbone.input, pooled)
    features: list[list[np.ndarray]] = [[] for _ in blocks]
    labels: list[np.ndarray] = []
    seconds, counted = 0.0, 0
    known: set[Any] = set()
    for x, y in data:
        shape = tuple(x["token_ids"].shape)
        started = time.perf_counter()
        outputs = model.predict_on_batch(x)
        if shape in known:  # the first batch of a shape also compiles
            seconds, counted = seconds + time.perf_counter() - started, counted + len(y)
        known.add(shape)
        for kept, output in zip(features, outputs if len(blocks) > 1 else [outputs], strict=True):
            kept.append(np.asarray(output, np.float32))
        labels.append(np.asarray(y))
    numbers, parameters = np.concatenate(labels), backbone.count_params()
    return [
        PretrainedScore(
            name=name,
            layer=block.name,
            log_evidence=log_evidence(np.concatenate(kept), numbers),
            probe_accuracy=probe_accuracy(np.concatenate(kept), numbers),
            parameters=parameters,
            gigabytes=parameters * _BYTES_TO_TRAIN / 1e9,
            rows_per_second=counted / seconds if counted else float("nan"),
        )
        for block, kept in zip(blocks, features, strict=True)
    ]
