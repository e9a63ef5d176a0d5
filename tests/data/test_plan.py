import numpy as np
import pytest

from keras_finetune.data import make_plan


def lengths(rows=1000, seed=0):
    return np.random.default_rng(seed).integers(1, 65, rows)


def batches(plan):
    return [(batch.rows.tolist(), batch.width) for batch in plan]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 32, 33, 1000])
def test_every_row_once_and_only_the_last_batch_partial(rows, shuffle):
    every = lengths(rows)
    plan = make_plan(every, 32, shuffle=shuffle, seed=3)
    assert sorted(np.concatenate([batch.rows for batch in plan]).tolist()) == list(range(rows))
    assert all(len(batch.rows) == 32 for batch in list(plan)[:-1])
    assert all(every[batch.rows].max() <= batch.width for batch in plan)
    assert plan.num_steps == len(plan) == -(-rows // 32)


def test_a_function_of_seed_and_epoch():
    every = lengths()
    first = batches(make_plan(every, seed=1, epoch=2))
    assert first == batches(make_plan(every, seed=1, epoch=2))
    assert first != batches(make_plan(every, seed=1, epoch=3))
    assert first != batches(make_plan(every, seed=2, epoch=2))
    steps = {make_plan(every, seed=1, epoch=epoch).num_steps for epoch in range(20)}
    assert len(steps) == 1


def test_start_at_goes_on_exactly():
    plan = make_plan(lengths(), seed=5)
    for step in (0, 1, 17, plan.num_steps):
        assert batches(plan.start_at(step)) == batches(plan)[step:]
    assert batches(plan.start_at(4).start_at(3)) == batches(plan)[7:]
    with pytest.raises(ValueError, match="step must be from 0 to"):
        plan.start_at(plan.num_steps + 1)


def test_batches_are_shuffled_over_widths_and_rows_within():
    plan = make_plan(lengths(), seed=0)
    used = [batch.width for batch in plan]
    assert used != sorted(used)
    assert plan[0].rows.tolist() != sorted(plan[0].rows.tolist())


def test_buckets_spare_padding():
    every = lengths()
    in_order = make_plan(every, shuffle=False)
    bucketed = make_plan(every)
    assert bucketed.padding_share < 0.2 < in_order.padding_share
    computed = sum(len(batch.rows) * batch.width for batch in bucketed)
    assert bucketed.padding_share == pytest.approx(1 - every.sum() / computed)


def test_order_is_kept_without_shuffle():
    plan = make_plan(lengths(100), 32, shuffle=False)
    assert np.concatenate([batch.rows for batch in plan]).tolist() == list(range(100))


def test_tokens_per_batch():
    every = lengths()
    plan = make_plan(every, tokens_per_batch=512)
    assert all(len(batch.rows) * batch.width <= 512 for batch in plan)
    narrow = [len(batch.rows) for batch in plan if batch.width <= 16]
    wide = [len(batch.rows) for batch in plan if batch.width > 48]
    assert max(narrow) > 3 * max(wide)
    assert sorted(np.concatenate([batch.rows for batch in plan]).tolist()) == list(range(1000))


def test_one_row_may_be_wider_than_the_budget():
    plan = make_plan(np.array([100, 3, 4]), tokens_per_batch=16)
    assert sorted(len(batch.rows) for batch in plan)[0] == 1


def test_tokens_per_batch_in_order():
    every = lengths()
    plan = make_plan(every, tokens_per_batch=512, shuffle=False)
    assert all(len(batch.rows) * batch.width <= 512 for batch in plan)
    assert np.concatenate([batch.rows for batch in plan]).tolist() == list(range(1000))
    narrowest = [min(w for w in (8, 16, 64) if w >= each) for each in (3, 9, 60)]
    small = make_plan(np.array([3, 9, 60]), 1, shuffle=False, widths=np.array([8, 16, 64]))
    assert [batch.width for batch in small] == narrowest


@pytest.mark.parametrize("seed", range(30))
def test_any_plan_holds_every_row_once_in_batches_that_fit(seed):
    rng = np.random.default_rng(seed)
    every = rng.integers(0, rng.integers(2, 300), rng.integers(1, 500))
    budget = int(rng.integers(1, 2000)) if seed % 2 else None
    arguments = {"batch_size": int(rng.integers(1, 70)), "tokens_per_batch": budget}
    plan = make_plan(every, **arguments, seed=seed, epoch=seed)
    assert sorted(np.concatenate([batch.rows for batch in plan]).tolist()) == list(
        range(len(every))
    )
    sizes = {}
    for step, (rows, width) in enumerate(plan):
        assert every[rows].max() <= width
        if step < len(plan) - 1:
            assert sizes.setdefault(width, len(rows)) == len(rows)
    # What each step computes differs in order only, from epoch to epoch.
    again = make_plan(every, **arguments, seed=seed, epoch=seed + 1)
    shapes = [sorted((len(b.rows), b.width) for b in one) for one in (plan, again)]
    assert shapes[0] == shapes[1]


def test_processes_share_every_batch():
    every = lengths(203)
    whole = make_plan(every, 32, seed=1)
    parts = [
        make_plan(every, 32, seed=1, process_index=index, process_count=4) for index in range(4)
    ]
    assert len({part.num_steps for part in parts}) == 1
    for step in range(parts[0].num_steps):
        joined = np.concatenate([part[step].rows for part in parts])
        full = whole[step].rows
        assert joined.tolist() == full[: len(full) // 4 * 4].tolist()
        assert {part[step].width for part in parts} == {whole[step].width}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lengths": []}, "no rows"),
        ({"batch_size": 0}, "batch_size must be an int of at least 1"),
        ({"seed": -1}, "seed must be an int of at least 0"),
        ({"seed": None}, "seed must be an int of at least 0. Received: None"),
        ({"batch_size": 1.5}, "batch_size must be an int of at least 1. Received: 1.5"),
        ({"batch_size": None}, "batch_size must be an int of at least 1. Received: None"),
        ({"tokens_per_batch": 0.5}, "tokens_per_batch must be an int of at least 1"),
        ({"widths": [8, 16]}, "longest row has 64"),
        ({"widths": [64, 64]}, "must ascend"),
        ({"process_index": 2, "process_count": 2}, "process_index must be"),
        ({"batch_size": 31, "process_count": 2}, "multiple of process_count"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_plan(**{"lengths": np.r_[lengths(), 64], **arguments})
