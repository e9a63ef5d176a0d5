"""Quantizing does not look at all objects for each weight, and leaves the collector as it was."""

import gc

import keras
import pytest

from keras_finetune.models.quantizing import few_objects_to_collect


def frozen_while_quantizing(monkeypatch):
    counts = []
    monkeypatch.setattr(gc, "collect", lambda *args: counts.append(gc.get_freeze_count()))
    layer = keras.layers.Dense(4)
    layer.build((2, 4))
    with few_objects_to_collect():
        layer.quantize("int8")
    return counts


@pytest.mark.usefixtures("unfrozen")
def test_what_exists_is_left_out_of_collections(monkeypatch):
    counts = frozen_while_quantizing(monkeypatch)
    assert counts
    assert min(counts) > 0
    assert gc.get_freeze_count() == 0


def test_what_a_program_froze_stays_frozen(monkeypatch):
    before = gc.get_freeze_count()
    assert before > 0  # See conftest.py.
    counts = frozen_while_quantizing(monkeypatch)
    assert 0 < max(counts) <= before  # Some may have been let go of meanwhile.
    assert 0 < gc.get_freeze_count() <= before
