import keras
import pytest

from keras_finetune.tuning import freeze, learning_rate_groups


def scales(groups):
    return {variable.path: group.scale for group in groups for variable in group.variables}


def test_one_rate_is_one_group(model):
    base, groups = learning_rate_groups(model, 1e-3)
    assert base == 1e-3
    assert [(group.name, group.scale, len(group.variables)) for group in groups] == [
        ("*", 1.0, len(model.trainable_variables))
    ]


def test_roles(model):
    base, groups = learning_rate_groups(model, {"backbone": 2e-5, "head": 1e-3})
    assert base == 1e-3
    assert scales(groups)["head_logits/kernel"] == 1.0
    assert scales(groups)["token_embedding/embeddings"] == pytest.approx(0.02)


def test_frozen_layers_need_no_rate(model):
    freeze(model, "backbone")
    _, groups = learning_rate_groups(model, {"head": 1e-3})
    assert list(scales(groups)) == ["head_logits/kernel", "head_logits/bias"]


def test_the_base_does_not_depend_on_what_is_frozen(model):
    rates = {"backbone": 2e-5, "head": 1e-3}
    freeze(model, "head")
    assert learning_rate_groups(model, rates)[0] == 1e-3


def test_layer_decay_counts_from_the_head_down(model):
    _, groups = learning_rate_groups(model, 1.0, layer_decay=0.5)
    found = scales(groups)
    assert found["head_logits/kernel"] == 1.0
    assert found["token_embedding/embeddings"] == 0.125
    of_blocks = {
        name: {group.scale for group in groups for v in group.variables if name in v.path}
        for name in ("block_0", "block_1")
    }
    assert of_blocks == {"block_0": {0.25}, "block_1": {0.5}}


def test_a_schedule_of_its_own_for_one_group(model):
    cosine = keras.optimizers.schedules.CosineDecay(1e-3, 10)
    base, groups = learning_rate_groups(model, {"head": cosine, "*": 1e-4})
    assert base == 1e-4
    assert {group.name: group.schedule for group in groups} == {"head": cosine, "*": None}


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"bakbone": 1e-3, "*": 1e-4}, "Did you mean"),
        ({"head": 1e-3}, "names no rate for"),
        ({"head": 1e-3, "head_logits": 1e-4, "*": 1e-4}, "twice"),
        ({"head": -1.0, "*": 1e-4}, ">= 0"),
        ({"head": "fast", "*": 1e-4}, "must be a float"),
        (float("nan"), "must be a float"),
    ],
)
def test_refused(model, rates, message):
    with pytest.raises(ValueError, match=message):
        learning_rate_groups(model, rates)


@pytest.mark.parametrize("decay", [0.0, 1.5, -1])
def test_layer_decay_out_of_range(model, decay):
    with pytest.raises(ValueError, match="layer_decay must be in"):
        learning_rate_groups(model, 1e-3, decay)
