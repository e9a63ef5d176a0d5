"""A head that predicts the next token."""

from typing import Any

import keras

from keras_finetune.models.features import backbone_features, backbone_inputs
from keras_finetune.models.relative_position_bias import RelativePositionBias
from keras_finetune.models.vocabulary import vocabulary_scores


def language_model(
    backbone: keras.Model,
    *,
    tied: bool = True,
    use_bias: bool = False,
    scale: float | None = None,
    name: str = "language_model",
) -> keras.Model:
    """Put a next-token head on a causal backbone, or on an encoder-decoder.

    The logits at position i are for the token at position i + 1.

    Args:
        backbone: From `transformer_decoder`, `lstm_encoder` (one direction) or `encoder_decoder`;
            or a functional model with a layer `token_embedding`.
        tied: Share the matrix of `token_embedding`
            ([Press and Wolf, 2016](https://arxiv.org/abs/1608.05859)); else `head_projection` has
            its own.
        use_bias: Whether the logit of each token has a bias (BART).
        scale: Factor on the features before they are projected. Default: 1.0, but
            `hidden_dim**-0.5` for a tied head on relative positions, as T5 was trained.
        name: The model's name.

    Returns:
        A functional model from the backbone's inputs to float32 logits
        (batch, length, vocab_size).

    Raises:
        ValueError: The backbone sees the future, or has no token embedding of the same width.

    Example:
        >>> from keras_finetune.models import transformer_decoder
        >>> backbone = transformer_decoder(100, num_layers=1, num_heads=2, hidden_dim=16)
        >>> language_model(backbone).output_shape
        (None, None, 100)
    """
    for layer in backbone.layers:
        sees_future = getattr(layer, "causal", True) is False
        if sees_future and not layer.name.startswith("encoder_"):
            raise ValueError(
                f"A language model needs a causal backbone, but {layer.name!r} of "
                f"{backbone.name!r} sees the tokens it would predict. Use transformer_decoder or "
                f"lstm_encoder(bidirectional=False), or masked_language_model."
            )
    features = backbone_features(backbone)
    if scale is None:
        scale = _default_scale(backbone, features) if tied else 1.0
    if scale != 1.0:
        features = keras.layers.Rescaling(scale, name="head_scale")(features)
    logits = vocabulary_scores(backbone, features, tied=tied, bias=use_bias)
    return keras.Model(backbone_inputs(backbone), logits, name=name)


def _default_scale(backbone: keras.Model, features: Any) -> float:
    relative = any(isinstance(layer, RelativePositionBias) for layer in backbone.layers)
    return float(features.shape[-1] ** -0.5) if relative else 1.0
