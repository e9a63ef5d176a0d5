import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_finetune.data import Ragged, build_store, make_dataset


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 40, 200)
    rows = {
        "token_ids": Ragged(
            rng.integers(1, 50, lengths.sum()).astype("int32"), np.r_[0, np.cumsum(lengths)]
        ),
        "label": rng.integers(0, 3, 200),
        "row": np.arange(200),
    }
    return build_store(tmp_path / "store", "key", lambda: [rows])


def rows_only(batch, rng):
    return {"row": batch["row"]}, batch["label"]


def order(dataset):
    return [int(row) for x, _ in dataset for row in x["row"]]


def test_every_epoch_carries_out_its_plan(store):
    dataset = make_dataset(store, rows_only, shuffle=True, seed=4)
    for epoch in range(3):
        planned = [row for batch in dataset.plan(epoch) for row in batch.rows]
        assert order(dataset) == planned
    assert dataset.epochs.next == 3
    dataset.epochs.next = 1
    assert order(dataset) == [row for batch in dataset.plan(1) for row in batch.rows]


def test_same_seed_same_batches(store):
    first, second, other = (
        make_dataset(store, rows_only, shuffle=True, seed=seed) for seed in (1, 1, 2)
    )
    assert order(first) == order(second) != order(other)


def test_order_is_kept_without_shuffle(store):
    dataset = make_dataset(store, rows_only)
    assert order(dataset) == order(dataset) == list(range(200))


def test_batches_are_padded_to_few_widths(store):
    def all_of_it(batch, rng):
        return {name: batch[name] for name in ("token_ids", "padding_mask", "row")}, batch["label"]

    dataset = make_dataset(
        store, all_of_it, shuffle=True, num_buckets=3, pad_values={"token_ids": 9}
    )
    widths = set()
    for x, label in dataset:
        ids, mask = x["token_ids"].numpy(), x["padding_mask"].numpy()
        widths.add(ids.shape[1])
        assert (ids[~mask] == 9).all()
        assert mask.sum(axis=1).tolist() == store.lengths("token_ids")[x["row"].numpy()].tolist()
        assert (mask[:, :-1] >= mask[:, 1:]).all()
        assert label.shape == (len(ids),)
    assert len(widths) <= 3


def test_two_sides_are_bucketed_together_and_padded_apart(tmp_path):
    rng = np.random.default_rng(0)
    sides = {"token_ids": rng.integers(1, 90, 120), "target_ids": rng.integers(1, 30, 120)}
    rows = {
        name: Ragged(np.arange(lengths.sum(), dtype="int32"), np.r_[0, np.cumsum(lengths)])
        for name, lengths in sides.items()
    }
    pairs = build_store(tmp_path / "pairs", "key", lambda: [rows | {"row": np.arange(120)}])

    def features(batch, rng):
        return ({name: batch[name] for name in batch},)

    dataset = make_dataset(
        pairs, features, ragged=tuple(sides), batch_size=2, num_buckets=3, shuffle=True
    )
    widths = {"token_ids": set(), "target_ids": set()}
    for (x,) in dataset:
        for name, mask in (("token_ids", "padding_mask"), ("target_ids", "target_ids_mask")):
            lengths = sides[name][x["row"].numpy()]
            assert x[mask].numpy().sum(axis=1).tolist() == lengths.tolist()
            assert x[name].shape == x[mask].shape
            widths[name].add(x[name].shape[1])
    assert all(1 < len(found) <= 3 for found in widths.values())
    assert max(widths["target_ids"]) < 40 < max(widths["token_ids"])
    together = sides["token_ids"] + sides["target_ids"]
    np.testing.assert_array_equal(dataset.plan(0).lengths, together)


def test_number_of_batches_is_known(store):
    dataset = make_dataset(store, rows_only, batch_size=32)
    assert int(dataset.cardinality()) == 7 == len(list(dataset))
    by_tokens = make_dataset(store, rows_only, tokens_per_batch=400, shuffle=True)
    assert int(by_tokens.cardinality()) == len(list(by_tokens))


def test_start_at_goes_on_exactly(store):
    def noisy(batch, rng):
        return {"row": batch["row"], "noise": rng.random((len(batch["row"]), 2))}, batch["label"]

    def batches(dataset):
        return [(x["row"].numpy().tolist(), x["noise"].numpy().tolist()) for x, _ in dataset]

    # Many batches, so that several are made with one call.
    dataset = make_dataset(store, noisy, batch_size=8, shuffle=True, seed=1)
    epochs = [batches(dataset) for _ in range(3)]
    for epoch, step in ((0, 0), (1, 3), (2, 24)):
        rest = dataset.start_at(epoch, step)
        assert int(rest.cardinality()) == 25 - step
        assert batches(rest) == batches(rest) == epochs[epoch][step:]
        assert [batch.rows.tolist() for batch in rest.plan(5)] == [row for row, _ in batches(rest)]
    assert dataset.epochs.next == 3
    with pytest.raises(ValueError, match="step must be from 0 to 25"):
        dataset.start_at(0, 26)


def test_the_same_batches_as_numpy_arrays(store):
    def features(batch, rng):
        noise = rng.random((len(batch["row"]), 2))
        return {"ids": batch["token_ids"], "noise": noise}, batch["label"].astype("int8")

    dataset, other = (make_dataset(store, features, shuffle=True, seed=1) for _ in range(2))
    for epoch in range(2):
        assert dataset.epochs.next == epoch
        for (x, y), (arrays, labels) in zip(dataset, other.as_numpy_iterator(), strict=True):
            for found, wanted in (*((arrays[n], x[n].numpy()) for n in x), (labels, y.numpy())):
                assert found.dtype == wanted.dtype
                np.testing.assert_array_equal(found, wanted)
    assert other.epochs.next == 2
    x, _ = next(dataset.start_at(1, 3).as_numpy_iterator())
    np.testing.assert_array_equal(x["ids"], list(dataset.start_at(1))[3][0]["ids"].numpy())


def test_sizes_are_known_where_they_do_not_vary(store):
    def features(batch, rng):
        ids = batch["token_ids"]
        pairs = ids[:, :, None] == ids[:, None, :]
        return (ids, pairs), np.eye(3, dtype="float32")[batch["label"]]

    dataset = make_dataset(store, features, shuffle=True, num_buckets=3)
    (ids, pairs), label = dataset.element_spec
    assert ids.shape.as_list() == [None, None]
    assert pairs.shape.as_list() == [None, None, None]
    assert label.shape.as_list() == [None, 3]
    assert len(list(dataset)) == 7
    (ids, _), _ = make_dataset(store, features, num_buckets=1).element_spec
    assert ids.shape.as_list() == [None, 40]


def test_a_longer_second_column_is_not_cut(tmp_path):
    rows = {
        "token_ids": Ragged(np.arange(1, 4, dtype="int32"), np.array([0, 1, 3])),
        "target_ids": Ragged(np.arange(1, 21, dtype="int32"), np.array([0, 2, 20])),
    }
    store = build_store(tmp_path / "store", "key", lambda: [rows])
    ((target, ids),) = make_dataset(
        store, lambda batch, rng: (batch["target_ids"], batch["token_ids"])
    )
    assert target.shape == (2, 24)
    assert ids.shape == (2, 4)
    assert target[1].numpy().tolist() == [*range(3, 21), *[0] * 6]


@pytest.mark.parametrize("batch_size", [1, 16, 32])
def test_a_second_ragged_column_may_have_any_width(tmp_path, batch_size):
    """Also where the narrowest batch and the widest happen to have the same of it."""
    lengths = np.arange(1, 65)
    ragged = {"a": lengths, "b": np.where(lengths % 63 == 1, 60, lengths)}
    rows = {
        name: Ragged(np.ones(each.sum(), "int32"), np.r_[0, np.cumsum(each)])
        for name, each in ragged.items()
    }
    store = build_store(tmp_path / "two", "key", lambda: [rows])
    dataset = make_dataset(
        store, lambda batch, rng: (batch["a"], batch["b"]), ragged="a", batch_size=batch_size
    )
    assert sum(int(b.numpy().sum()) for _, b in dataset) == ragged["b"].sum()


def test_a_function_may_reuse_its_memory(store):
    memory = np.zeros(32, "int64")

    def reused(batch, rng):
        found = memory[: len(batch["row"])]
        found[:] = batch["row"]
        return {"row": found}, batch["label"]

    # Many batches, so that several are made with one call.
    assert order(make_dataset(store, reused, batch_size=4)) == list(range(200))


def test_what_is_no_array_or_of_another_type_is_refused(store):
    with pytest.raises(ValueError, match="None in the place of an array"):
        make_dataset(store, lambda batch, rng: (batch["row"], None, batch["label"]))

    def sometimes_float(batch, rng):
        return (batch["row"] + (0.5 if 40 in batch["row"] else 0),)

    dataset = make_dataset(store, sometimes_float)
    with pytest.raises(tf.errors.InvalidArgumentError, match="float64 where others have int64"):
        list(dataset)
    with pytest.raises(TypeError, match=r"x\.astype"):
        list(dataset.as_numpy_iterator())


def test_a_store_without_rows_or_column_is_refused(store, tmp_path):
    with pytest.raises(ValueError, match='Did you mean "token_ids"'):
        make_dataset(store, rows_only, ragged="token_id")
    empty = {"token_ids": Ragged(np.zeros(0, "int32"), np.zeros(1, int))}
    with pytest.raises(ValueError, match="no rows"):
        make_dataset(build_store(tmp_path / "empty", "key", lambda: [empty]), rows_only)


def test_randomness_of_features_is_a_function_of_seed_epoch_and_step(store):
    def noisy(batch, rng):
        return rng.random(2)[None].repeat(len(batch["row"]), 0), batch["label"]

    def draws(dataset):
        return [x.numpy()[0].tolist() for x, _ in dataset]

    dataset = make_dataset(store, noisy, seed=3)
    first, second = draws(dataset), draws(dataset)
    assert first != second
    assert len({tuple(draw) for draw in first}) == len(first)
    assert draws(make_dataset(store, noisy, seed=3)) == first


@pytest.mark.backends
def test_fit_sees_a_new_order_in_every_epoch(store):
    """What a model is shown, epoch by epoch, on any backend."""
    seen = []

    def noting(batch, rng):
        seen.append(batch["row"].tolist())
        return batch["row"].astype("float32")[:, None], batch["label"]

    dataset = make_dataset(store, noting, shuffle=True, batch_size=50)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    from keras_finetune import FineTuner

    tuner = FineTuner(model)
    tuner.compile(keras.optimizers.SGD(1e-9))
    seen.clear()
    tuner.fit(dataset, epochs=2, verbose=0)
    tuner.fit(dataset, epochs=1, verbose=0)
    epochs = [[batch.rows.tolist() for batch in dataset.plan(epoch)] for epoch in range(3)]
    # JAX and PyTorch read one batch ahead before they begin; nothing is skipped for it.
    joined = str(seen)
    positions = [joined.find(str(epoch)[1:-1]) for epoch in epochs]
    assert all(position >= 0 for position in positions)
    assert positions == sorted(positions)


@pytest.mark.backends
def test_plain_fit_reads_every_batch_of_an_epoch(store):
    """Also the rest of one, with the number of its steps known, and with validation data."""

    def features(batch, rng):
        x = {"token_ids": batch["token_ids"], "padding_mask": batch["padding_mask"]}
        return x, batch["label"]

    inputs = {
        "token_ids": keras.Input((None,), dtype="int32", name="token_ids"),
        "padding_mask": keras.Input((None,), dtype="bool", name="padding_mask"),
    }
    vectors = keras.layers.Embedding(50, 4)(inputs["token_ids"])
    pooled = keras.layers.GlobalAveragePooling1D()(vectors, mask=inputs["padding_mask"])
    model = keras.Model(inputs, keras.layers.Dense(3)(pooled))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    steps = []

    class Counting(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            steps.append(0)

        def on_train_batch_end(self, batch, logs=None):
            steps[-1] += 1

    dataset = make_dataset(store, features, shuffle=True)
    held_out = make_dataset(store, features)
    fitting = {
        "verbose": 0,
        "shuffle": False,
        "callbacks": [Counting()],
        "validation_data": held_out,
    }
    model.fit(dataset, epochs=2, **fitting)
    model.fit(dataset.start_at(2, 4), epochs=1, **fitting)
    assert steps == [7, 7, 3]
    assert model.predict(held_out, verbose=0).shape == (200, 3)


def test_what_is_derived_keeps_what_is_read(store):
    import tensorflow as tf

    made = lambda: make_dataset(store, rows_only)  # noqa: E731
    count = len(order(made()))
    mapped, zipped = made().map(lambda *row: row).prefetch(1), tf.data.Dataset.zip(made(), made())
    inside = tf.data.Dataset.range(2).flat_map(lambda _: made())
    gc.collect()
    assert len(order(mapped)) == count
    assert len(order(zipped.map(lambda one, other: one))) == count
    assert len(order(inside)) == 2 * count


def test_what_was_read_does_not_stay(store):
    dataset = make_dataset(store, rows_only)
    order(dataset)
    read = weakref.ref(dataset.read)
    del dataset
    gc.collect()
    assert read() is None
