"""Which layers are meant: roles, globs, lists, callables, blocks counted from either end."""

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TypeAlias

import keras

from keras_finetune.data.int_checks import is_int
from keras_finetune.models import RelativePositionBias
from keras_finetune.models.arguments import check_keras_model
from keras_finetune.suggest import did_you_mean

Selection: TypeAlias = (
    str
    | keras.layers.Layer
    | Callable[[keras.layers.Layer], bool]
    | Sequence[str | keras.layers.Layer]
)
Layers: TypeAlias = dict[str, keras.layers.Layer]

ROLES = ("backbone", "head", "embeddings")


def layer_paths(model: keras.Model) -> Layers:
    """List every layer below a model by its path.

    A path is made of layer names joined by `"/"`: `"block_0/attention/query"`. A parent comes
    before its children, and layers come in the order of the graph.

    Args:
        model: Any Keras model: Functional, Sequential or subclassed.

    Returns:
        A dict from path to layer.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="logits")])
        >>> list(layer_paths(model))
        ['logits']
    """
    found: Layers = {}
    seen: set[int] = set()

    def walk(parent: keras.layers.Layer, prefix: str) -> None:
        for layer in _children(parent):
            if id(layer) in seen or isinstance(layer, keras.layers.InputLayer):
                continue
            seen.add(id(layer))
            path = prefix + layer.name
            number = 1
            while path in found:  # Subclassed models may hold two layers of one name.
                path = f"{prefix}{layer.name}_{number}"
                number += 1
            found[path] = layer
            walk(layer, path + "/")

    walk(model, "")
    return found


def roles(model: keras.Model) -> dict[str, Layers]:
    """Tell which layers are the backbone, the head and the embeddings.

    Layers whose name starts with `"head_"` are the head; the heads of this library are named so,
    which is how roles survive saving. A model without such names is read as: its `backbone`
    attribute (KerasHub), else the one nested model, is the backbone; else all but the last layer
    with weights is.

    Args:
        model: Any Keras model.

    Returns:
        A dict from role to the layers with weights that play it, by path. `"embeddings"` are those
        layers of the backbone that turn ids or positions into vectors, and relative positions.
    """
    check_keras_model("Telling a backbone from a head", model)
    units = _units(model)
    in_head = _head_test(model, units)
    head = {path: layer for path, layer in units.items() if in_head(path)}
    backbone = {path: layer for path, layer in units.items() if path not in head}
    embeddings = {path: layer for path, layer in backbone.items() if _is_embedding(layer)}
    return {"backbone": backbone, "head": head, "embeddings": embeddings}


def blocks(layers: Layers) -> tuple[Layers, list[Layers]]:
    """Divide layers into a stem and the blocks above it.

    A block begins at a layer that is itself made of layers with weights (a transformer block, an
    LSTM) and reaches to the next one; what comes before the first, usually the embeddings, is the
    stem. Where no layer is made of others, every layer that is no embedding is a block.

    Args:
        layers: Layers by path, in the order of the graph.

    Returns:
        The stem, and the list of blocks from the bottom to the top.
    """
    starts = {p for p, layer in layers.items() if _is_composite(layer) and not _is_embedding(layer)}
    if not starts:
        starts = {path for path, layer in layers.items() if not _is_embedding(layer)}
    stem: Layers = {}
    found: list[Layers] = []
    for path, layer in layers.items():
        if path in starts:
            found.append({})
        (found[-1] if found else stem)[path] = layer
    return stem, found


def select(
    model: keras.Model,
    selection: Selection,
    *,
    top: int | None = None,
    bottom: int | None = None,
) -> Layers:
    """Find the layers that a selection means.

    Args:
        model: Any Keras model.
        selection: A role (`"backbone"`, `"head"`, `"embeddings"`), a glob over layer paths
            (`"block_*"`, `"*/attention"`), a layer, a callable `layer -> bool`, or a sequence of
            roles, globs and layers. A glob may leave out the leading folders of a path.
        top: Keep only that many blocks from the output's side.
        bottom: Keep only that many blocks from the input's side, with what lies below them.

    Returns:
        The layers by path, outermost only, in the order of the graph.

    Raises:
        ValueError: The selection matches nothing, or there are fewer blocks than asked for.

    Example:
        >>> import keras
        >>> model = keras.Sequential([
        ...     keras.Input((None,)),
        ...     keras.layers.Embedding(10, 4, name="embedding"),
        ...     keras.layers.LSTM(4, name="lstm"),
        ...     keras.layers.Dense(2, name="dense"),
        ... ])
        >>> list(select(model, "backbone"))
        ['embedding', 'lstm']
        >>> list(select(model, "backbone", top=1))
        ['lstm']
    """
    found = _match(model, selection)
    if not found:
        raise ValueError(_nothing_matches(model, selection))
    if top is None and bottom is None:
        return found
    if top is not None and bottom is not None:
        raise ValueError(f"Give top or bottom, not both. Received top={top}, bottom={bottom}.")
    count = top if top is not None else bottom
    stem, found_blocks = blocks(found)
    if not is_int(count) or not 1 <= count <= len(found_blocks):
        raise ValueError(
            f"{_show(selection)} has {len(found_blocks)} block(s), so that "
            f"{'top' if top is not None else 'bottom'} must be an int from 1 to "
            f"{len(found_blocks)}. Received: {count!r}. Without top and bottom all of it is meant."
        )
    kept = found_blocks[-count:] if top is not None else [stem, *found_blocks[:count]]
    return {path: layer for block in kept for path, layer in block.items()}


def not_built(model: keras.Model) -> str:
    """Say that a model has no weights yet, and what to do."""
    return (
        f"the model {model.name!r} is not built, so that its layers have no weights. Begin it with "
        "keras.Input, or call model.build(input_shape) first."
    )


def _children(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    below = layer._flatten_layers(include_self=False, recursive=False)
    return [child for child in below if isinstance(child, keras.layers.Layer)]


def _units(model: keras.Model) -> Layers:
    """The layers with weights, looking into nested models but not into layers."""
    units: Layers = {}
    for path, layer in layer_paths(model).items():
        parent = path.rpartition("/")[0]
        inside_unit = any(parent == unit or parent.startswith(unit + "/") for unit in units)
        if layer.weights and not isinstance(layer, keras.Model) and not inside_unit:
            units[path] = layer
    return units


def _head_test(model: keras.Model, units: Layers) -> Callable[[str], bool]:
    paths = layer_paths(model)
    named = [path for path in paths if path.rpartition("/")[2].startswith("head_")]
    if named:
        return lambda path: any(path == name or path.startswith(name + "/") for name in named)
    backbone = getattr(model, "backbone", None)
    nested = [p for p, x in paths.items() if isinstance(x, keras.Model) and x.weights]
    outer = [path for path in nested if "/" not in path]
    inside = next((path for path in nested if paths[path] is backbone), None)
    if inside is None and len(outer) == 1 and any("/" not in path for path in units):
        inside = outer[0]
    if inside is not None:
        return lambda path: not path.startswith(f"{inside}/")
    last = next(reversed(units), None)
    return lambda path: path == last and len(units) > 1


def _is_embedding(layer: keras.layers.Layer) -> bool:
    is_bias = isinstance(layer, RelativePositionBias)
    return is_bias or "embedding" in type(layer).__name__.lower()


def _is_composite(layer: keras.layers.Layer) -> bool:
    return any(child.weights for child in _children(layer))


def _match(model: keras.Model, selection: Selection) -> Layers:
    paths = layer_paths(model)
    if isinstance(selection, str):
        if selection in ROLES:
            return roles(model)[selection]
        hits = {
            path: layer
            for path, layer in paths.items()
            if fnmatchcase(path, selection) or fnmatchcase(path, f"*/{selection}")
        }
    elif isinstance(selection, keras.layers.Layer):
        hits = {path: layer for path, layer in paths.items() if layer is selection}
    elif callable(selection):
        hits = {path: layer for path, layer in paths.items() if selection(layer)}
    elif not isinstance(selection, Iterable):
        raise ValueError(
            f"A selection is one of {ROLES}, a glob over layer paths, a layer, a callable "
            f"layer -> bool, or a list of them. Received: {selection!r}"
        )
    else:
        hits = {}
        for part in selection:
            found = _match(model, part)
            if not found:
                raise ValueError(_nothing_matches(model, part))
            hits.update(found)
        hits = {path: layer for path, layer in paths.items() if path in hits}
    outermost: Layers = {}
    for path, layer in hits.items():
        if layer.weights and not any(path.startswith(f"{kept}/") for kept in outermost):
            outermost[path] = layer
    return _open_models(model, outermost)


def _open_models(model: keras.Model, layers: Layers) -> Layers:
    """Put the layers of a nested model in its place, so that its blocks can be counted."""
    if not any(isinstance(layer, keras.Model) for layer in layers.values()):
        return layers
    opened: Layers = {}
    for path, layer in layers.items():
        if isinstance(layer, keras.Model):
            units = _units(model).items()
            opened.update({p: unit for p, unit in units if p.startswith(f"{path}/")})
        else:
            opened[path] = layer
    return opened


def _show(selection: Selection) -> str:
    if isinstance(selection, keras.layers.Layer):
        return f"layer {selection.name!r}"
    return "the callable" if callable(selection) else repr(selection)


def _nothing_matches(model: keras.Model, selection: Selection) -> str:
    found = roles(model)
    units = list(_units(model))
    known = ", ".join(f'"{role}"' for role in ROLES if found[role])
    shown = ", ".join(f'"{path}"' for path in units[:12]) + (", ..." if len(units) > 12 else "")
    hint = ""
    if isinstance(selection, str):
        names = [*ROLES, *layer_paths(model)]
        hint = did_you_mean(selection, names)
        if selection in ROLES:
            hint = f" This model has no layer with weights in the role {selection!r}."
    if not model.built or not model.weights:
        return f"The selection {_show(selection)} cannot be found yet: {not_built(model)}"
    return (
        f"The selection {_show(selection)} matches no layer with weights. "
        f"Roles: {known}. Layers: {shown}.{hint}"
    )
