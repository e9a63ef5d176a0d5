"""Freezing and unfreezing: resolve which layers are meant, then set Keras's own flags once."""

import keras

from keras_finetune.tuning.selection import Layers, Selection, layer_paths, select


def freeze(
    model: keras.Model,
    selection: Selection,
    *,
    top: int | None = None,
    bottom: int | None = None,
) -> Layers:
    """Set layers not trainable.

    Dropout inside a frozen layer stays active while training, as Keras has it; batch normalization
    inside one uses its moving statistics. A compiled model takes notice when it is compiled again,
    which `FineTuner.fit` does where needed.

    Args:
        model: Any Keras model.
        selection: What to freeze; see `select`.
        top: Only that many blocks from the output's side.
        bottom: Only that many blocks from the input's side, with what lies below them.

    Returns:
        The layers that were frozen, by path.

    Example:
        >>> import keras
        >>> model = keras.Sequential([
        ...     keras.Input((4,)), keras.layers.Dense(3, name="features"), keras.layers.Dense(2)])
        >>> list(freeze(model, "backbone"))
        ['features']
        >>> model.layers[0].trainable, model.layers[1].trainable
        (False, True)
    """
    layers = select(model, selection, top=top, bottom=bottom)
    _set_trainable(model, layers, False)
    return layers


def unfreeze(
    model: keras.Model,
    selection: Selection,
    *,
    top: int | None = None,
    bottom: int | None = None,
) -> Layers:
    """Set layers trainable, and whatever contains them; their siblings stay as they are.

    Where Keras's `enable_lora` was called, its update trains, and the weight beneath does not.

    Args:
        model: Any Keras model.
        selection: What to unfreeze; see `select`.
        top: Only that many blocks from the output's side.
        bottom: Only that many blocks from the input's side, with what lies below them.

    Returns:
        The layers that were unfrozen, by path.
    """
    layers = select(model, selection, top=top, bottom=bottom)
    _set_trainable(model, layers, True)
    return layers


def _set_trainable(model: keras.Model, layers: Layers, value: bool) -> None:
    paths = layer_paths(model)
    chosen = {
        path
        for path in paths
        if any(path == root or path.startswith(f"{root}/") for root in layers)
    }
    # Keras passes a flag on to everything below, so that every flag is noted first and set from
    # the outermost layer to the innermost.
    wanted: list[tuple[keras.layers.Layer, bool, list[tuple[keras.Variable, bool]]]] = []
    for path, layer in {"": model, **paths}.items():
        contains_chosen = value and any(p.startswith(f"{path}/") or path == "" for p in chosen)
        flag = value if path in chosen else bool(layer.trainable or contains_chosen)
        own = layer._trainable_variables
        if path in chosen:
            flags = [(variable, value and not _has_an_update(layer, variable)) for variable in own]
        else:
            flags = [(variable, variable.trainable) for variable in own]
        wanted.append((layer, flag, flags))
    for layer, flag, variables in wanted:
        layer.trainable = flag
        for variable, variable_flag in variables:
            variable.trainable = variable_flag


def _has_an_update(layer: keras.layers.Layer, variable: keras.Variable) -> bool:
    """Tell whether Keras's `enable_lora` has a layer train an update in the place of a weight."""
    weights = [getattr(layer, name, None) for name in ("_kernel", "_embeddings")]
    return getattr(layer, "lora_enabled", False) and any(variable is x for x in weights)
