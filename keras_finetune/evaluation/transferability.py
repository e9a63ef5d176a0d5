"""How much features say about labels, without fine-tuning anything."""

from typing import Any

import numpy as np

_MAX_ITERATIONS, _TOLERANCE = 100, 1e-5
_RIDGES = np.logspace(-4, 4, 17)


def log_evidence(features: Any, labels: Any) -> float:
    """Return LogME: the logarithm of the evidence that features explain labels linearly.

    The evidence of a Bayesian linear model from features to each class, at the best prior and
    noise, a row; the mean over classes. Greater is better, and values for the same labels can be
    compared across features of any width.

    Source: [You et al., 2021](https://arxiv.org/abs/2102.11005).

    Args:
        features: (rows, width) float.
        labels: (rows,) int, class numbers.

    Returns:
        A float.

    Raises:
        ValueError: Rows differ in number, a feature is not finite, or there is one class only.

    Example:
        >>> import numpy as np
        >>> labels = np.arange(60) % 3
        >>> telling = np.eye(3)[labels] + 0.1 * np.random.default_rng(0).normal(size=(60, 3))
        >>> log_evidence(telling, labels) > log_evidence(telling[::-1] * 0 + 1, labels)
        True
    """
    x, classes = _checked(features, labels)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    return float(np.mean([_evidence(u, s, column, x.shape[1]) for column in classes.T]))


def probe_accuracy(features: Any, labels: Any) -> float:
    """Return the accuracy of a linear probe on rows that it was not fitted to.

    The probe is ridge regression to one-hot labels. Its prediction for each row, fitted to all
    others, has a closed form
    ([Allen, 1974](https://doi.org/10.1080/00401706.1974.10489157)), so that no rows need be held
    out; the strength of the ridge is the one of least leave-one-out error.

    Args:
        features: (rows, width) float.
        labels: (rows,) int, class numbers.

    Returns:
        A float from 0 to 1.

    Raises:
        ValueError: As for `log_evidence`.

    Example:
        >>> import numpy as np
        >>> labels = np.arange(60) % 3
        >>> probe_accuracy(np.eye(3)[labels], labels)
        1.0
    """
    x, classes = _checked(features, labels)
    scale = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    targets = classes - classes.mean(axis=0)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    projected = u.T @ targets
    best, least = targets, np.inf
    for ridge in _RIDGES * len(x):
        shrink = s**2 / (s**2 + ridge)
        # The mean was taken from the row itself, too, which is another 1 / rows of influence.
        influence = np.minimum((u**2) @ shrink + 1 / len(x), 1 - 1e-9)
        residual = (targets - u @ (shrink[:, None] * projected)) / (1 - influence)[:, None]
        if (error := float((residual**2).sum())) < least:
            best, least = targets - residual, error
    predicted = (best + classes.mean(axis=0)).argmax(axis=1)
    return float((predicted == classes.argmax(axis=1)).mean())


def _checked(features: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return features in double precision and labels as one-hot columns."""
    x, numbers = np.asarray(features, np.float64), np.asarray(labels)
    if x.ndim != 2 or numbers.shape != x.shape[:1]:
        raise ValueError(
            f"features must be (rows, width) and labels (rows,). Received shapes {x.shape} and "
            f"{numbers.shape}."
        )
    if not np.isfinite(x).all():
        raise ValueError("features hold NaN or infinity.")
    names = np.unique(numbers)
    if len(names) < 2:
        raise ValueError(f"There must be at least two classes. Received only {names.tolist()}.")
    return x, (numbers[:, None] == names[None]).astype(np.float64)


def _evidence(u: np.ndarray, s: np.ndarray, y: np.ndarray, width: int) -> float:
    """Maximise the evidence over the prior's precision and the noise's, by fixed-point steps."""
    rows, squared = len(y), s**2
    z = u.T @ y
    unreachable = max(float(y @ y - z @ z), 0.0)
    prior, noise = 1.0, 1.0
    for _ in range(_MAX_ITERATIONS):
        mean = noise * s * z / (prior + noise * squared)
        effective = float((noise * squared / (prior + noise * squared)).sum())
        length = float(mean @ mean)
        error = float(((z - s * mean) ** 2).sum()) + unreachable
        before = prior / noise
        prior = effective / max(length, 1e-12)
        noise = (rows - effective) / max(error, 1e-12)
        if abs(prior / noise - before) <= _TOLERANCE * before:
            break
    mean = noise * s * z / (prior + noise * squared)
    length = float(mean @ mean)
    error = float(((z - s * mean) ** 2).sum()) + unreachable
    evidence = (
        rows / 2 * np.log(noise)
        + width / 2 * np.log(prior)
        - rows / 2 * np.log(2 * np.pi)
        - noise / 2 * error
        - prior / 2 * length
        - 0.5 * np.log(prior + noise * squared).sum()
        - 0.5 * (width - len(s)) * np.log(prior)
    )
    return float(evidence / rows)
