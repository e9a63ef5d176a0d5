"""A head that classifies whole texts."""

import keras

from keras_finetune.models.activation import activation_function
from keras_finetune.models.arguments import check_choice, check_positive, check_rate
from keras_finetune.models.features import (
    backbone_features,
    backbone_inputs,
    backbone_padding_mask,
)
from keras_finetune.models.features_at import POSITIONS, PooledPosition, features_at
from keras_finetune.models.pooling import POOLINGS, MaskedPooling


def text_classifier(
    backbone: keras.Model,
    num_classes: int,
    *,
    pooling: str = "mean",
    hidden_dim: int | None = None,
    hidden_activation: str = "tanh",
    use_bias: bool = True,
    dropout: float = 0.1,
    activation: str | None = None,
    name: str = "text_classifier",
) -> keras.Model:
    """Put a classification head on a backbone.

    The result is one flat graph that shares the backbone's layers. The layers of the head are
    named `head_...`.

    Args:
        backbone: A functional model to features (batch, length, hidden_dim), with an input
            `padding_mask` if sequences are padded. The decoder's features and mask are used if
            there is a decoder.
        num_classes: Number of classes, or of labels if a text may have several.
        pooling: `"mean"`, `"max"`, `"first"` or `"last"`, over real tokens. With the last two, the
            topmost transformer block computes little more than that one position.
        hidden_dim: Width of a dense layer between pooling and logits (as BERT's pooler). Default:
            no such layer.
        hidden_activation: Its activation.
        use_bias: Whether the logits have a bias.
        dropout: Rate before the logits.
        activation: `None` for logits, `"softmax"` for probabilities of exclusive classes,
            `"sigmoid"` for independent ones.
        name: The model's name.

    Returns:
        A functional model from the backbone's inputs to float32 (batch, num_classes).

    Raises:
        ValueError: An argument is out of range, or its name is not known.

    Example:
        >>> from keras_finetune.models import cnn_encoder
        >>> text_classifier(cnn_encoder(100, hidden_dim=16), 4).output_shape
        (None, 4)
    """
    check_choice("pooling", pooling, POOLINGS)
    check_positive(num_classes=num_classes)
    check_rate(dropout=dropout)
    if activation not in (None, "linear"):
        check_choice("activation", activation, ["softmax", "sigmoid"])
    if num_classes == 1 and activation != "sigmoid":
        raise ValueError(
            "num_classes=1 is a single yes-or-no label, which needs activation='sigmoid'. For two "
            "exclusive classes pass num_classes=2."
        )
    x, mask = backbone_features(backbone), backbone_padding_mask(backbone)
    if pooling in POSITIONS and mask is not None:
        positions = PooledPosition(pooling, name="head_position")(mask)
        found = features_at(x, positions)
        if found is not None:
            x, mask = found, keras.ops.take_along_axis(mask, positions, axis=1)
    x = MaskedPooling(pooling, name="head_pooling")(x, padding_mask=mask)
    if hidden_dim is not None:
        check_positive(hidden_dim=hidden_dim)
        function, gated = activation_function(hidden_activation)
        if gated:
            raise ValueError(f'hidden_activation must not be gated ("{hidden_activation}").')
        x = keras.layers.Dense(hidden_dim, activation=function, name="head_hidden")(x)
    x = keras.layers.Dropout(dropout, name="head_dropout")(x)
    logits = keras.layers.Dense(
        num_classes,
        activation=activation,
        use_bias=use_bias,
        name="head_logits",
        dtype="float32",
    )
    return keras.Model(backbone_inputs(backbone), logits(x), name=name)
