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
        ValueError: The model is not functional, or its output is something else.
    """
    if not getattr(backbone, "inputs", None):
        raise ValueError(
            "A head needs a built functional model. Received: "
            f"{type(backbone).__name__} without symbolic inputs."
        )
    features = backbone.output
    if isinstance(features, dict):
        features = features.get("sequence_output")
    if isinstance(features, list | tuple) or features is None or len(features.shape) != 3:
        raise ValueError(
            f"A backbone's output must be (batch, length, hidden_dim). Received a model "
            f"{backbone.name!r} with the output shape {backbone.output_shape}."
        )
    return features


def backbone_padding_mask(backbone: keras.Model) -> Any:
    """Return the padding mask of a backbone's features.

    Args:
        backbone: A functional model.

    Returns:
        The input `decoder_padding_mask`, else `padding_mask`, else `None`: nothing is padding.
    """
    inputs = backbone.input if isinstance(backbone.input, dict) else {}
    return inputs.get("decoder_padding_mask", inputs.get("padding_mask"))
