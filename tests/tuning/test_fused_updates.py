import keras
import numpy as np
import pytest

from keras_finetune.tuning.fused_updates import fuse_updates

pytestmark = pytest.mark.backends

RATE, BETAS, EPSILON = 0.01, (0.9, 0.999), 1e-7
SHAPES = [(4, 3), (5,), (2, 2)]


def gradients_of(step):
    """Those of three occurrences of rows 1, 1 and 3 of a table, and all gradients made dense."""
    rng = np.random.default_rng(step)
    rows = rng.normal(size=(3, 3)).astype("float32")
    table = np.zeros(SHAPES[0], "float32")
    np.add.at(table, [1, 1, 3], rows)
    return rows, [table, *(rng.normal(size=shape).astype("float32") for shape in SHAPES[1:])]


def as_received(rows, dense):
    """The same as a backend gives them: TensorFlow's of an embedding are sparse, with repeats."""
    if keras.backend.backend() != "tensorflow":
        return [keras.ops.convert_to_tensor(x) for x in dense]
    import tensorflow as tf

    table = tf.IndexedSlices(tf.constant(rows), tf.constant([1, 1, 3]), tf.constant(SHAPES[0]))
    return [table, *map(tf.constant, dense[1:])]


def written_out(values, steps, *, weight_decay=0.0, decayed=(True, True, True), most=None):
    """AdamW in float64, a line a formula of the paper."""
    values = [value.astype("float64") for value in values]
    m, v = ([np.zeros(shape) for shape in SHAPES] for _ in range(2))
    for step in range(steps):
        _, gradients = gradients_of(step)
        norm = np.sqrt(sum((x.astype("float64") ** 2).sum() for x in gradients))
        scale = min(1.0, most / norm) if most else 1.0
        for i, gradient in enumerate(gradients):
            if decayed[i]:
                values[i] = values[i] * (1 - RATE * weight_decay)
            gradient = gradient * scale
            m[i] = BETAS[0] * m[i] + (1 - BETAS[0]) * gradient
            v[i] = BETAS[1] * v[i] + (1 - BETAS[1]) * gradient**2
            corrected = np.sqrt(1 - BETAS[1] ** (step + 1)) / (1 - BETAS[0] ** (step + 1))
            values[i] = values[i] - RATE * corrected * m[i] / (np.sqrt(v[i]) + EPSILON)
    return values


def trained(optimizer, steps, exclude=None):
    rng = np.random.default_rng(7)
    start = [rng.normal(size=shape).astype("float32") for shape in SHAPES]
    variables = [keras.Variable(x, name=f"weight_{i}") for i, x in enumerate(start)]
    if exclude:
        optimizer.exclude_from_weight_decay(var_names=exclude)
    optimizer.build(variables)
    fuse_updates(optimizer)
    for step in range(steps):
        optimizer.apply(as_received(*gradients_of(step)), variables)
    return start, [keras.ops.convert_to_numpy(x) for x in variables]


def assert_close(received, expected):
    for one, other in zip(received, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_adam():
    start, end = trained(keras.optimizers.Adam(RATE), 5)
    assert_close(end, written_out(start, 5))


def test_clipping_by_the_norm_of_all():
    start, end = trained(keras.optimizers.Adam(RATE, global_clipnorm=0.5), 5)
    assert_close(end, written_out(start, 5, most=0.5))


def test_a_small_norm_is_not_raised():
    start, end = trained(keras.optimizers.Adam(RATE, global_clipnorm=1e6), 3)
    assert_close(end, written_out(start, 3))


def test_weight_decay_and_what_is_excluded():
    optimizer = keras.optimizers.AdamW(RATE, weight_decay=0.3)
    start, end = trained(optimizer, 5, exclude=["weight_1"])
    assert_close(end, written_out(start, 5, weight_decay=0.3, decayed=(True, False, True)))


def test_state_is_keras_own():
    """What one leaves behind, the other goes on with."""
    rng = np.random.default_rng(7)
    variable = keras.Variable(rng.normal(size=(4,)).astype("float32"))
    fast, plain = (keras.optimizers.AdamW(RATE, name="adamw") for _ in range(2))
    gradient = keras.ops.convert_to_tensor(rng.normal(size=(4,)).astype("float32"))
    fast.build([variable])
    fuse_updates(fast)
    fast.apply([gradient], [variable])
    other = keras.Variable(variable)
    plain.build([other])
    for source, target in zip(fast.variables, plain.variables, strict=True):
        target.assign(source)
    fast.apply([gradient], [variable])
    plain.apply([gradient], [other])
    assert_close([keras.ops.convert_to_numpy(variable)], [keras.ops.convert_to_numpy(other)])
    assert fast.get_config() == plain.get_config()


@pytest.mark.parametrize("name", ["SGD", "Lion", "RMSprop"])
def test_other_methods_clip_alike_and_are_left_alone(name):
    ends = []
    for fuse in (True, False):
        variable = keras.Variable(np.ones(4, "float32"))
        optimizer = getattr(keras.optimizers, name)(RATE, global_clipnorm=0.1)
        optimizer.build([variable])
        if fuse:
            fuse_updates(optimizer)
        for number in range(3):
            optimizer.apply([keras.ops.ones(4) * (number + 1)], [variable])
        ends.append(keras.ops.convert_to_numpy(variable))
    assert_close(ends[:1], ends[1:])


def test_amsgrad_is_keras_own():
    optimizer = keras.optimizers.Adam(RATE, amsgrad=True)
    optimizer.build([keras.Variable(np.ones(4, "float32"))])
    fuse_updates(optimizer)
    assert "_backend_update_step" not in vars(optimizer)


def test_no_gradient_no_change():
    variables = [keras.Variable(np.ones(2, "float32")) for _ in range(2)]
    optimizer = keras.optimizers.Adam(RATE, global_clipnorm=1.0)
    optimizer.build(variables)
    fuse_updates(optimizer)
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([None, keras.ops.ones(2)], variables)
    assert keras.ops.convert_to_numpy(variables[0]).tolist() == [1, 1]
    assert (keras.ops.convert_to_numpy(variables[1]) < 1).all()


def test_not_a_number_is_not_hidden_by_clipping():
    variable = keras.Variable(np.ones(2, "float32"))
    optimizer = keras.optimizers.SGD(RATE, global_clipnorm=1.0)
    optimizer.build([variable])
    fuse_updates(optimizer)
    optimizer.apply([keras.ops.convert_to_tensor([float("nan"), 1.0])], [variable])
    assert np.isnan(keras.ops.convert_to_numpy(variable)).all()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="what XLA compiles there")
def test_inside_a_compiled_step():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.layers.Embedding(9, 4), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model.build((None, 3))
    optimizer = keras.optimizers.AdamW(RATE, global_clipnorm=1.0)
    optimizer.build(model.trainable_variables)
    fuse_updates(optimizer)
    model.compile(optimizer, "mse", jit_compile=True)
    ids, targets = np.arange(24).reshape(8, 3) % 9, np.ones((8, 2))
    losses = model.fit(ids, targets, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="elsewhere all values lie alike")
def test_weights_that_lie_transposed_as_from_a_file():
    import torch

    start = np.arange(6.0, dtype="float32").reshape(3, 2)
    ends = []
    for value in (start.copy(), start.T.copy().T):
        variable = keras.Variable(start)
        variable.value.data = torch.from_numpy(value)
        optimizer = keras.optimizers.Adam(RATE)
        optimizer.build([variable])
        fuse_updates(optimizer)
        optimizer.apply([torch.arange(-3.0, 3.0).reshape(2, 3).t()], [variable])
        assert variable.value.is_contiguous()
        ends.append(keras.ops.convert_to_numpy(variable))
    np.testing.assert_array_equal(ends[0], ends[1])
    signs = np.sign(np.arange(-3.0, 3.0).reshape(2, 3).T)
    np.testing.assert_allclose(ends[0], start - RATE * signs, rtol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="elsewhere tensors do not change")
@pytest.mark.parametrize("most", [0.5, 1e6])
def test_the_callers_gradients_stay(most):
    import torch

    optimizer = keras.optimizers.Adam(RATE, global_clipnorm=most)
    variable = keras.Variable(np.ones((2, 3), "float32"))
    optimizer.build([variable])
    fuse_updates(optimizer)
    optimizer.beta_1 = keras.Variable(0.9)
    gradient, expanded = torch.ones((2, 3)), torch.ones(()).expand(2, 3)
    optimizer.apply([gradient], [variable])
    optimizer.apply([expanded], [variable])
    assert gradient.eq(1.0).all()
    np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), 1.0 - 2 * RATE, rtol=1e-5)
