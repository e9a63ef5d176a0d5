"""A function of tensors that a model's layers compute, compiled where that is faster."""

from collections.abc import Callable
from typing import Any

import keras

from keras_finetune.device import on_gpu


def compiled(
    model: keras.Model,
    function: Callable[..., Any],
    *,
    few_shapes: bool = False,
    with_xla: bool = False,
) -> Callable[..., Any]:
    """Compile a function that calls a model's layers, without gradients.

    JAX compiles it once for each shape of its arguments; PyTorch runs it as it is. On TensorFlow
    it is a graph for each shape where there are few of them, else one for all shapes.

    Args:
        model: Whose weights the function uses; changes to them count.
        function: From nested dicts of tensors to nested tensors, pure.
        few_shapes: Whether the arguments always have one of a few shapes.
        with_xla: Whether XLA compiles a graph of few shapes as a whole, on TensorFlow.

    Returns:
        A function of the same arguments, which may be NumPy arrays.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        if few_shapes:
            return by_shapes(function, with_xla=with_xla)
        return _traced(function, _fixed_sizes)
    if backend == "jax":
        return _jitted(model, function)
    return _without_gradients(function)


def by_shapes(function: Callable[..., Any], *, with_xla: bool = False) -> Callable[..., Any]:
    """Trace a function once for each of a few shapes, on TensorFlow.

    Args:
        function: From nested dicts of tensors to nested tensors, pure.
        with_xla: Whether XLA compiles it as a whole.

    Returns:
        A function of the same arguments, which may be NumPy arrays.
    """
    return _traced(function, lambda x: tuple(x.shape), with_xla=with_xla)


def xla_pays(model: keras.Model) -> bool:
    """Tell whether XLA computes a model's layers for few tokens faster than TensorFlow's kernels.

    It does but for bfloat16 on a CPU, which it computes by way of float32 (`one_row.py` has a way
    around that for a single row).
    """
    if keras.backend.backend() != "tensorflow":
        return False
    half = any(layer.compute_dtype == "bfloat16" for layer in model._flatten_layers())
    return on_gpu() or not half


def _traced(
    function: Callable[..., Any],
    traced_shape: Callable[[Any], tuple[int | None, ...]],
    *,
    with_xla: bool = False,
) -> Callable[..., Any]:
    """Trace a function once for each of the shapes that are told apart.

    A `tf.function` would compare nested arguments with its signatures at every call, which for the
    many tensors of a step takes as long as some of its layers; and it warns of a loop over models.
    """
    import tensorflow as tf

    traced: dict[Any, Any] = {}

    def trace(args: tuple[Any, ...], kinds: list[Any]) -> Any:
        def of_flat(*tensors: Any) -> Any:
            return function(*tf.nest.pack_sequence_as(args, tensors))

        specs = [tf.TensorSpec(shape, dtype) for dtype, shape in kinds]
        options = {"jit_compile": with_xla, "autograph": False}
        return tf.function(of_flat, input_signature=specs, **options).get_concrete_function()

    def call(*args: Any) -> Any:
        flat = [tf.convert_to_tensor(x) for x in tf.nest.flatten(args)]
        kinds = [(x.dtype, traced_shape(x)) for x in flat]
        key = tuple(kinds)
        if key not in traced:
            traced[key] = trace(args, kinds)
        return traced[key](*flat)

    return call


def _fixed_sizes(x: Any) -> tuple[int | None, ...]:
    # Lengths and batches vary; widths of features, numbers of heads and of blocks do not.
    fixed_axes = {5: (0, 2, 4), 4: (1, 3), 3: (2,), 2: (1,)}
    fixed = fixed_axes.get(len(x.shape), ()) if x.dtype.is_floating else ()
    return tuple(size if axis in fixed else None for axis, size in enumerate(x.shape))


def _jitted(model: keras.Model, function: Callable[..., Any]) -> Callable[..., Any]:
    import jax

    @jax.jit
    def with_weights(weights: list[Any], args: tuple[Any, ...]) -> Any:
        with keras.StatelessScope(zip(model.variables, weights, strict=True)):
            return function(*args)

    return lambda *args: with_weights([v.value for v in model.variables], args)


def _without_gradients(function: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    def call(*args: Any) -> Any:
        with torch.no_grad():
            return function(*keras.tree.map_structure(keras.ops.convert_to_tensor, args))

    return call
