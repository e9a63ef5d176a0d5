"""What a head takes from a backbone: its features and the mask that goes with them."""

from typing import Any

import keras


def backbone_features(backbone: keras.Model) -> Any:
    """Return a backbone's features.

    Args:
        backbone: A functional model whose output is (batch, length, hidden_dim), or a dict with
            such a `"sequence_output"` (as KerasHub's).

    Returns:
        The symbolic output.

    Raises:
        ValueError: The model is not built, or its output is something else.
    """
    backbone_inputs(backbone)
    # A Sequential model has no `output` until it is called.
    sequential = isinstance(backbone, keras.Sequential)
    features = backbone.outputs[0] if sequential else backbone.output
    if isinstance(features, dict):
        features = features.get("sequence_output")
    if isinstance(features, list | tuple) or features is None or len(features.shape) != 3:
        raise ValueError(
            f"A backbone's output must be (batch, length, hidden_dim). Received a model "
            f"{backbone.name!r} whose output is {features}."
        )
    return features


def backbone_padding_mask(backbone: keras.Model) -> Any:
    """Return the padding mask of a backbone's features.

    Args:
        backbone: A functional model.

    Returns:
        The input `decoder_padding_mask`, else `padding_mask`, else `None`: nothing is padding.
    """
    inputs = backbone_inputs(backbone)
    if not isinstance(inputs, dict):
        return None
    return inputs.get("decoder_padding_mask", inputs.get("padding_mask"))


def backbone_inputs(backbone: keras.Model) -> Any:
    """Return a backbone's symbolic inputs, as it takes them.

    Args:
        backbone: A built functional or sequential model.

    Returns:
        A dict of symbolic tensors for the backbones of this library.

    Raises:
        ValueError: The model has none.
    """
    if not getattr(backbone, "inputs", None):
        raise ValueError(
            f"A head needs a functional model, or a Sequential that was built. Received: "
            f"{type(backbone).__name__} without symbolic inputs."
        )
    return backbone.inputs[0] if isinstance(backbone, keras.Sequential) else backbone.input
