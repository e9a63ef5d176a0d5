import numpy as np
import pytest

from keras_finetune.data import Ragged, build_store, make_dataset
from keras_finetune.tuning.data_kinds import FitData
from keras_finetune.tuning.sample import mean_step_of_sample, sample_data


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_step_of_a_sample_stands_for_the_mean_step(tmp_path, at_once):
    # Most rows are short, a few are long: the widest of the sample stand for more than there are.
    lengths = np.random.default_rng(0).lognormal(2.5, 0.9, 900).astype(int).clip(1, 200)
    rows = Ragged(np.ones(lengths.sum(), np.int32), np.concatenate([[0], np.cumsum(lengths)]))
    store = build_store(tmp_path / "store", "1", lambda: [{"token_ids": rows}])
    data = FitData(make_dataset(store, lambda x, rng: (x["token_ids"], x["token_ids"][:, 0])))
    sample = sample_data(data, at_once)
    whole, some = ((x.plan(0).widths * x.plan(0).sizes) for x in (data.x, sample.x))
    timed = some[at_once:].mean()
    assert some[:at_once].tolist() == [whole.max()] * at_once
    assert timed == pytest.approx(whole.mean(), rel=0.2)
    assert timed * mean_step_of_sample(data, sample, at_once) == pytest.approx(whole.mean())


def test_arrays_have_steps_of_one_size():
    data = FitData(np.zeros((400, 8)), np.zeros(400))
    assert mean_step_of_sample(data, sample_data(data, 1), 1) == 1.0
