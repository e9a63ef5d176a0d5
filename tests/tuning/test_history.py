import math

from keras_finetune.tuning.history import EpochRecorder, add_epoch, num_epochs


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


def test_the_epoch_number_goes_on_over_fits():
    history, data = {}, Counted()
    seen = []
    for _ in range(2):
        recorder = EpochRecorder(history, data)
        for epoch in range(2):
            recorder.on_epoch_begin(epoch)
            seen.append(data.epochs.next)
            recorder.on_epoch_end(epoch, {"loss": 0.0})
    assert seen == [0, 1, 2, 3]
