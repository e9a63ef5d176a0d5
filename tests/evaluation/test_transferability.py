import numpy as np
import pytest

from keras_finetune.evaluation import log_evidence, probe_accuracy


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def gaussian_evidence(x, y, prior, noise):
    """The same evidence by its definition: the density of y with the weights integrated out."""
    covariance = np.eye(len(y)) / noise + x @ x.T / prior
    _, determinant = np.linalg.slogdet(covariance)
    exponent = y @ np.linalg.solve(covariance, y)
    return -0.5 * (len(y) * np.log(2 * np.pi) + determinant + exponent) / len(y)


@pytest.mark.parametrize("width", [3, 40])
def test_log_evidence_is_the_greatest_by_its_definition(rng, width):
    x = rng.normal(size=(30, width))
    labels = (x[:, 0] + 0.5 * rng.normal(size=30) > 0).astype(int)
    grid = np.logspace(-4, 4, 81)
    best = [
        max(gaussian_evidence(x, (labels == c) * 1.0, a, b) for a in grid for b in grid)
        for c in (0, 1)
    ]
    # The grid is coarse, so that the maximum itself is a little greater.
    assert np.mean(best) - 1e-6 <= log_evidence(x, labels) <= np.mean(best) + 0.02


def test_better_features_have_more_evidence(rng):
    labels = np.arange(300) % 3
    clean = np.eye(3)[labels]
    noises = [log_evidence(clean + s * rng.normal(size=(300, 3)), labels) for s in (0.1, 0.5, 3)]
    assert noises == sorted(noises, reverse=True)


def test_probe_is_leave_one_out(rng):
    """Fitting anew without each row gives the same predictions as the closed form."""
    x = rng.normal(size=(25, 4))
    labels = (x[:, 0] + rng.normal(size=25) > 0).astype(int)
    z = (x - x.mean(0)) / x.std(0)
    results = {}
    for ridge in np.logspace(-4, 4, 17) * 25:
        rows, error = [], 0.0
        for out in range(25):
            kept = np.delete(np.arange(25), out)
            target = np.eye(2)[labels[kept]]
            # An intercept that is not shrunk: centre both on the rows that are kept.
            centre, mean = z[kept].mean(0), target.mean(0)
            a = z[kept] - centre
            weights = np.linalg.solve(a.T @ a + ridge * np.eye(4), a.T @ (target - mean))
            predicted = (z[out] - centre) @ weights + mean
            rows.append(predicted.argmax())
            error += ((np.eye(2)[labels[out]] - predicted) ** 2).sum()
        results[error] = np.mean(np.array(rows) == labels)
    assert probe_accuracy(x, labels) == pytest.approx(results[min(results)])


def test_probe_does_not_reward_noise(rng):
    labels = np.arange(200) % 2
    assert probe_accuracy(rng.normal(size=(200, 500)), labels) < 0.65


@pytest.mark.parametrize("measure", [log_evidence, probe_accuracy])
def test_bad_input(measure):
    with pytest.raises(ValueError, match="at least two classes"):
        measure(np.ones((4, 2)), [1, 1, 1, 1])
    with pytest.raises(ValueError, match="NaN"):
        measure(np.full((2, 2), np.nan), [0, 1])
    with pytest.raises(ValueError, match=r"\(rows, width\)"):
        measure(np.ones((4, 2)), [0, 1])
