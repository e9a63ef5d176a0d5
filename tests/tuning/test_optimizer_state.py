import keras
import numpy as np
import pytest

from keras_finetune.tuning import GroupedOptimizer, carry_state
from keras_finetune.tuning.groups import LearningRateGroup
from keras_finetune.tuning.optimizer_state import clone, make_optimizer, method

pytestmark = pytest.mark.backends


def variables():
    return [keras.Variable(np.float32([1, 2]), name=name) for name in "ab"]


def ones(count):
    return [keras.ops.ones(2) for _ in range(count)]


def test_one_group_of_one_age_is_a_plain_keras_optimizer():
    both = variables()
    made = make_optimizer(keras.optimizers.Adam(), 0.1, [LearningRateGroup("*", tuple(both))], both)
    assert isinstance(made, keras.optimizers.Adam)


def test_a_late_variable_starts_at_zero_with_a_count_of_its_own():
    a, b = variables()
    old = keras.optimizers.Adam(0.1)
    for _ in range(5):
        old.apply(ones(1), [a])
    made = make_optimizer(
        keras.optimizers.Adam(),
        0.1,
        [LearningRateGroup("*", (a, b))],
        [a, b],
        previous=old,
        step=5,
    )
    assert isinstance(made, GroupedOptimizer)
    assert sorted(int(member.iterations) for member in made.members) == [0, 5]
    before = keras.ops.convert_to_numpy(b).copy()
    made.apply(ones(2), [a, b])
    # Adam's first step is the learning rate; with another's count it would be a tenth of it.
    np.testing.assert_allclose(before - keras.ops.convert_to_numpy(b), 0.1, rtol=1e-4)


def test_another_method_starts_anew():
    both = variables()
    old = keras.optimizers.SGD(0.1, momentum=0.9)
    old.apply(ones(2), both)
    group = [LearningRateGroup("*", tuple(both))]
    made = make_optimizer(keras.optimizers.Adam(), 0.1, group, both, previous=old)
    assert int(made.iterations) == 0
    assert issubclass(method(made), keras.optimizers.Adam)


def test_carry_state_copies_by_variable():
    a, b = variables()
    old, new = keras.optimizers.Adam(), keras.optimizers.Adam()
    old.apply(ones(2), [a, b])
    new.build([b])
    assert [variable is b for variable in carry_state(old, new)] == [True]
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(new._momentums[0]), keras.ops.convert_to_numpy(old._momentums[1])
    )


def test_clone_keeps_what_weight_decay_leaves_out():
    optimizer = keras.optimizers.AdamW()
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    assert clone(optimizer)._exclude_from_weight_decay_pattern == {"bias"} or (
        clone(optimizer)._exclude_from_weight_decay_pattern
        == optimizer._exclude_from_weight_decay_pattern
    )
