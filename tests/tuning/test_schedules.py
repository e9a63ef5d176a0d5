import keras
import pytest

from keras_finetune.tuning import WarmupDecay
from keras_finetune.tuning.schedules import warmup_steps

pytestmark = pytest.mark.backends


def rates(schedule, steps):
    return [pytest.approx(float(schedule(step)), abs=1e-6) for step in steps]


def test_shapes():
    assert rates(WarmupDecay(1.0, 12, 4), [0, 1, 3, 4, 8, 12, 20]) == [
        0.25,
        0.5,
        1.0,
        1.0,
        0.5,
        0.0,
        0.0,
    ]
    assert rates(WarmupDecay(1.0, 8, decay="cosine"), [0, 4, 8]) == [1.0, 0.5, 0.0]
    assert rates(WarmupDecay(1.0, 8, 2, "constant"), [0, 1, 8]) == [0.5, 1.0, 1.0]


def test_round_trip():
    schedule = WarmupDecay(0.1, 10, 2, "cosine")
    saved = keras.optimizers.schedules.serialize(schedule)
    again = keras.optimizers.schedules.deserialize(saved)
    assert again.get_config() == schedule.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.0, 10, 2, "linaer"), "Did you mean"),
        ((1.0, 10, 11), "from 0 to total_steps"),
        ((1.0, 0), "at least 1"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        WarmupDecay(*arguments)


def test_warmup_as_share_or_steps():
    assert warmup_steps(0.06, 1000) == 60
    assert warmup_steps(5, 10) == 5
    with pytest.raises(ValueError, match="more than the 4 steps"):
        warmup_steps(5, 4)
