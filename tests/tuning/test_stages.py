import keras
import pytest

from keras_finetune import Stage, gradual_unfreezing, linear_probe_then_tune

pytestmark = pytest.mark.backends


def test_gradual_unfreezing_by_two(model):
    stages = gradual_unfreezing(model, epochs=2, final_epochs=5, blocks_per_stage=2)
    assert [(stage.name, stage.epochs) for stage in stages] == [
        ("head", 2),
        ("top 2", 2),
        ("all", 5),
    ]
    assert stages[1].trainable == ("head_logits", "block_1", "block_0")


def test_linear_probe(model):
    probe, tune = linear_probe_then_tune(model, probe_learning_rate=0.01, learning_rate=1e-5)
    assert probe.trainable == ("head_logits",)
    assert tune.learning_rate == 1e-5
    assert set(tune.trainable) == {"head_logits", "token_embedding", "block_0", "block_1"}


def test_apply_trains_exactly_what_is_named(model):
    model.get_layer("block_0").trainable = True
    Stage("some", ("head", "block_1")).apply(model)
    names = [layer.name for layer in model.layers if layer.trainable_variables]
    assert names == ["block_1", "head_logits"]


def test_stages_are_plain_data():
    stage = Stage("head", "head")
    assert stage.trainable == ("head",)
    assert stage == Stage("head", ("head",), 1, None)


@pytest.mark.parametrize(
    "arguments",
    [("head", ()), ("head", ("head",), 0), ("head", ("head",), 1.5), ("head", "head", 1, {})],
)
def test_refused(arguments):
    with pytest.raises(ValueError, match=r"trains nothing|epochs must be|names no layers"):
        Stage(*arguments)


def test_no_head():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="needs a head and a backbone"):
        linear_probe_then_tune(model)
    with pytest.raises(ValueError, match="blocks_per_stage"):
        gradual_unfreezing(model, blocks_per_stage=0)
    with pytest.raises(ValueError, match="final_epochs must be"):
        gradual_unfreezing(model, final_epochs=0)


def test_epochs_of_a_probe(model):
    with pytest.raises(ValueError, match="Received: probe_epochs=0"):
        linear_probe_then_tune(model, probe_epochs=0)
