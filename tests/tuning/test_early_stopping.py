import keras

from keras_finetune.tuning.early_stopping import early_stopping_callbacks


def test_default_restores_the_best_weights():
    (callback,) = early_stopping_callbacks(True, True, [])
    assert callback.restore_best_weights
    assert callback.monitor == "val_loss"


def test_none_without_validation_data_or_if_switched_off():
    assert early_stopping_callbacks(True, False, []) == []
    assert early_stopping_callbacks(False, True, []) == []


def test_the_users_own_stands_in():
    own = keras.callbacks.EarlyStopping("val_accuracy")
    assert early_stopping_callbacks(own, True, []) == [own]
    assert early_stopping_callbacks(True, True, [own]) == []
