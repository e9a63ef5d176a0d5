import keras
import numpy as np
import pytest

from keras_finetune.models import RecurrentBlock

pytestmark = pytest.mark.backends

MASK = np.arange(6) < np.array([[6], [4], [1]])


@pytest.fixture
def hidden():
    return np.random.default_rng(0).normal(size=(3, 6, 5)).astype("float32")


def test_equals_keras_bidirectional_lstm_with_a_mask(hidden, random_weights):
    ours = RecurrentBlock(8, bidirectional=True)
    ours.build(hidden.shape)
    random_weights(ours)
    theirs = keras.layers.Bidirectional(
        keras.layers.LSTM(4, return_sequences=True, use_cudnn=False)
    )
    theirs.build(hidden.shape)
    theirs.set_weights(ours.get_weights())
    expected = keras.ops.convert_to_numpy(theirs(hidden, mask=keras.ops.convert_to_tensor(MASK)))
    got = keras.ops.convert_to_numpy(ours(hidden, padding_mask=MASK))
    np.testing.assert_allclose(got[MASK], expected[MASK], rtol=0, atol=1e-5)


def test_trap_13_padding_and_rows_of_padding_change_nothing(hidden, random_weights):
    block = RecurrentBlock(8, bidirectional=True)
    block.build(hidden.shape)
    random_weights(block)
    expected = keras.ops.convert_to_numpy(block(hidden, padding_mask=MASK))
    wide = np.concatenate([np.where(MASK[:, :, None], hidden, 9.0), hidden], axis=1)
    wide = np.concatenate([wide, wide[:1]])
    mask = np.pad(MASK, ((0, 1), (0, 6)))
    assert not mask[3].any()
    got = keras.ops.convert_to_numpy(block(wide.astype("float32"), padding_mask=mask))
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[:3, :6][MASK], expected[MASK], rtol=0, atol=1e-6)


def test_without_a_mask_every_position_counts(hidden):
    block = RecurrentBlock(8, bidirectional=True)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(block(hidden)),
        keras.ops.convert_to_numpy(block(hidden, padding_mask=np.ones((3, 6), bool))),
        rtol=0,
        atol=1e-6,
    )


def test_one_direction_never_sees_the_future(hidden):
    block = RecurrentBlock(8)
    before = keras.ops.convert_to_numpy(block(hidden))
    changed = hidden.copy()
    changed[:, 3:] += 1
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(block(changed))[:, :3], before[:, :3])


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"must be even\. Received: hidden_dim=7"):
        RecurrentBlock(7, bidirectional=True)
    with pytest.raises(ValueError, match="hidden_dim must be an int of at least 1"):
        RecurrentBlock(0)
