import numpy as np
import pytest
import tensorflow as tf

from keras_finetune.data.batches import batches_dataset, count_batches_of_a_call

SIGNATURE = ({"ids": tf.TensorSpec([None, None], "int32")}, tf.TensorSpec([None, 2], "float32"))


def made(epoch, step):
    """A batch of an own size, with numbers that tell its epoch and step."""
    rows, width = 1 + step % 3, 2 + step % 5
    return {"ids": np.full((rows, width), step)}, np.full((rows, 2), epoch)


@pytest.mark.parametrize("steps", [range(0, 7, 3), range(0, 6, 3), range(4, 7, 3), range(7)])
def test_every_batch_comes_once_and_in_order(steps):
    dataset = batches_dataset(lambda: 5, steps, made, SIGNATURE)
    assert dataset.element_spec == SIGNATURE
    for found in (list(dataset), list(dataset), list(dataset.as_numpy_iterator())):
        wanted = [made(5, step) for step in range(steps.start, steps.stop)]
        assert len(found) == len(wanted) == int(dataset.cardinality())
        for (x, y), (x_wanted, y_wanted) in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(x["ids"], x_wanted["ids"])
            np.testing.assert_array_equal(y, y_wanted)


def test_each_batch_is_made_once():
    asked = []

    def batch(epoch, step):
        asked.append(step)
        return made(epoch, step)

    dataset = batches_dataset(lambda: 0, range(0, 10, 4), batch, SIGNATURE)
    assert len(list(dataset)) == 10
    assert asked == list(range(10))


def test_one_call_makes_the_batches_up_to_the_next(monkeypatch):
    calls = []
    numpy_function = tf.numpy_function

    def counted(function, *args):
        def call(*inputs):
            calls.append(inputs)
            return function(*inputs)

        return numpy_function(call, *args)

    monkeypatch.setattr(tf, "numpy_function", counted)
    dataset = batches_dataset(lambda: 3, range(0, 10, 4), made, SIGNATURE)
    assert len(list(dataset)) == 10
    assert calls == [(), (3, 0), (3, 4), (3, 8)]


def test_large_batches_and_those_of_few_steps_are_made_one_by_one():
    small, large = np.zeros((32, 64), "int32"), np.zeros((256, 1024), "float32")
    assert count_batches_of_a_call(({"x": small}, small), 1_000) == 8
    assert count_batches_of_a_call(({"x": small}, small), 33) == 4
    assert count_batches_of_a_call(({"x": small}, small), 5) == 1
    assert count_batches_of_a_call(({"x": large}, small), 1_000) == 1
    assert 1 < count_batches_of_a_call(np.zeros((64, 1024), "float32"), 1_000) < 8
    assert count_batches_of_a_call(np.zeros((0, 4)), 1_000) == 8
