"""The rows that a frozen prefix is computed for."""

import keras
import numpy as np
import pytest

from keras_finetune.data.plan import make_plan
from keras_finetune.tuning.find_rows import rows_of
from keras_finetune.tuning.prefix_rows import OtherBatchesError, PlannedRows


def test_text_in_arrays_runs_on_fewer_rows_at_a_time():
    ids, labels = np.ones((300, 512), np.int32), np.zeros(300)
    rows = rows_of(ids, labels)
    sizes = [len(block.x) for block in rows.blocks()]
    assert sum(sizes) == 300
    assert max(sizes) * 512 <= 8_192
    assert rows_of(ids.astype("float32"), labels).num_blocks < rows.num_blocks  # Features.


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has fewer widths, more padding")
def test_many_rows_are_padded_little():
    lengths = np.random.default_rng(0).integers(4, 129, 20_000)
    rows = PlannedRows(
        plan=lambda epoch: make_plan(lengths, 32, epoch=epoch),
        read=lambda rows, width, rng: ({"token_ids": np.zeros((len(rows), width), np.int32)},),
        lengths=lengths,
        shuffled=True,
        seed=0,
        key="rows",
    )
    computed = sum(block.x["token_ids"].size for block in rows.blocks())
    assert computed / lengths.sum() < 1.09


def test_batches_that_differ_late_are_seen():
    import tensorflow as tf

    late = []

    def batches():
        for step in range(6):
            differs = step == 5 and bool(late)
            yield np.full((2, 3), step + differs, "float32"), np.zeros(2, "float32")

    spec = (tf.TensorSpec((None, 3)), tf.TensorSpec((None,)))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=spec)
    rows = rows_of(dataset.apply(tf.data.experimental.assert_cardinality(6)), None)
    assert rows.refusal() is None
    assert rows.key
    assert len(list(rows.blocks())) == 6
    late.append(True)
    with pytest.raises(OtherBatchesError, match=r"Batch 5 .* cache_frozen=False"):
        list(rows.blocks())
