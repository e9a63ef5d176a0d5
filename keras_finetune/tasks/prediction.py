"""What a model says: whether these are numbers, and in label names."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Prediction:
    """What a model says of one text.

    Attributes:
        label: The most probable label.
        probability: Its probability.
        probabilities: The probability of every label, by name.
        labels: The labels that are given: `label` alone, or with `multi_label` all that are more
            probable than not.
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    labels: tuple[str, ...]


def check_outputs(outputs: np.ndarray) -> None:
    """Refuse what a model says if it is no numbers, as generation does.

    Args:
        outputs: float, logits or probabilities; minus infinity is what is impossible.

    Raises:
        ValueError: One is NaN or infinite.
    """
    if outputs.size and not outputs.max() < np.inf:
        raise ValueError(
            "The model's outputs are NaN or infinite: nothing can be predicted. Look whether some "
            "of its weights are, as after a training that diverged: load earlier ones, and lower "
            "the learning rate. If none is, its numbers are too great for float16: use bfloat16 "
            "or float32."
        )


def decode(
    probabilities: np.ndarray, labels: Sequence[str], *, multi_label: bool = False
) -> list[Prediction]:
    """Turn probabilities into label names.

    Args:
        probabilities: (rows, classes) float.
        labels: The name of each class.
        multi_label: Whether a text may have several labels, or none.

    Raises:
        ValueError: A probability is NaN.
    """
    check_outputs(np.asarray(probabilities))
    decoded = []
    for row in np.asarray(probabilities, float):
        named = {name: float(value) for name, value in zip(labels, row, strict=True)}
        best = labels[int(row.argmax())]
        several = tuple(name for name, value in named.items() if value > 0.5)
        given = several if multi_label else (best,)
        decoded.append(Prediction(best, named[best], named, given))
    return decoded
