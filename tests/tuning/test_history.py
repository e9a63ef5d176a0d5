import math

from keras_finetune.tuning.history import EpochCount, EpochRecorder, add_epoch, num_epochs


class Counted:
    def __init__(self):
        self.epochs = type("Counter", (), {"next": 0})()


def test_lists_stay_equally_long():
    history = {}
    add_epoch(history, {"loss": 1.0})
    add_epoch(history, {"loss": 0.5, "val_loss": 0.6})
    add_epoch(history, {"loss": 0.4})
    assert history["loss"] == [1.0, 0.5, 0.4]
    assert [math.isnan(value) for value in history["val_loss"]] == [True, False, True]
    assert num_epochs(history) == 3


def numbers(count, epochs, initial_epoch=0, *, ends=True):
    """Which numbers the data is told in a fit of these epochs of Keras's."""
    data, seen = Counted(), []
    recorder = EpochRecorder({}, data, count=count, initial_epoch=initial_epoch)
    for epoch in epochs:
        recorder.on_epoch_begin(epoch)
        seen.append(data.epochs.next)
        recorder.on_epoch_end(epoch, {"loss": 0.0})
    if ends:
        recorder.on_train_end()
    return seen


def test_the_epoch_number_goes_on_over_fits():
    count = EpochCount()
    assert numbers(count, range(2)) == [0, 1]
    assert numbers(count, range(2)) == [2, 3]
    assert numbers(count, range(4, 6), initial_epoch=4) == [4, 5]
    assert numbers(count, range(3, 5), initial_epoch=3) == [6, 7]


def test_a_new_process_goes_on_with_the_epochs_it_is_told():
    count = EpochCount()
    assert numbers(count, range(2, 4), initial_epoch=2) == [2, 3]
    assert numbers(count, range(2)) == [4, 5]
    count = EpochCount()  # A callback restored a backup.
    assert numbers(count, range(2, 4)) == [2, 3]
    assert numbers(count, range(1, 3)) == [5, 6]


def test_a_fit_that_was_broken_off():
    count = EpochCount()
    numbers(count, range(3))
    assert numbers(count, range(2), ends=False) == [3, 4]
    assert numbers(count, range(2, 4), ends=False) == [5, 6]  # A callback restored its backup.
    assert numbers(count, range(2)) == [7, 8]  # It goes on without one.
