"""A head that finds where in a text an answer begins and ends."""

from typing import Any

import keras
from keras import ops

from keras_finetune.models.arguments import check_rate
from keras_finetune.models.features import (
    backbone_features,
    backbone_inputs,
    backbone_padding_mask,
)

_IMPOSSIBLE = -1e9


@keras.saving.register_keras_serializable(package="keras_finetune")
class ForbidPadding(keras.layers.Layer):
    """Give padding a score so low that a softmax over positions leaves it out.

    Call arguments:
        inputs: (batch, length, scores).
        padding_mask: (batch, length) bool, `True` for real tokens.

    Example:
        >>> import numpy as np
        >>> scores = ForbidPadding()(np.ones((1, 2, 1), "float32"), np.array([[True, False]]))
        >>> [float(score) for score in scores[0, :, 0]]
        [1.0, -1000000000.0]
    """

    def build(self, inputs_shape: Any) -> None:
        pass

    def call(self, inputs: Any, padding_mask: Any) -> Any:
        mask = ops.cast(padding_mask, "bool")
        return ops.where(mask[:, :, None], inputs, _IMPOSSIBLE)

    def compute_output_shape(self, inputs_shape: Any, padding_mask_shape: Any) -> Any:
        return inputs_shape


def question_answerer(
    backbone: keras.Model, *, dropout: float = 0.0, name: str = "question_answerer"
) -> keras.Model:
    """Put a head for extractive question answering on a backbone.

    Source: [BERT](https://arxiv.org/abs/1810.04805), section 4.2.

    Args:
        backbone: A functional model to features (batch, length, hidden_dim), which reads a
            question and a text.
        dropout: Rate before the scores.
        name: The model's name.

    Returns:
        A functional model from the backbone's inputs to float32 logits (batch, length, 2): of each
        token, how likely the answer begins there and how likely it ends there. Padding has -1e9.

    Raises:
        ValueError: The backbone has no features of that shape.

    Example:
        >>> from keras_finetune.models import transformer_encoder
        >>> backbone = transformer_encoder(100, num_layers=1, num_heads=2, hidden_dim=16)
        >>> question_answerer(backbone).output_shape
        (None, None, 2)
    """
    check_rate(dropout=dropout)
    x, mask = backbone_features(backbone), backbone_padding_mask(backbone)
    if dropout:
        x = keras.layers.Dropout(dropout, name="head_dropout")(x)
    x = keras.layers.Dense(2, name="head_scores", dtype="float32")(x)
    if mask is not None:
        x = ForbidPadding(name="head_logits", dtype="float32")(x, mask)
    return keras.Model(backbone_inputs(backbone), x, name=name)


@keras.saving.register_keras_serializable(package="keras_finetune")
def span_loss(positions: Any, logits: Any) -> Any:
    """Return the mean of two cross entropies: of where answers begin, and of where they end.

    Args:
        positions: (batch, 2) numbers of the first and of the last token.
        logits: (batch, length, 2), as `question_answerer` gives them.

    Returns:
        (batch,) loss of each row.

    Example:
        >>> import numpy as np
        >>> round(float(span_loss(np.array([[1, 1]]), np.zeros((1, 4, 2), "float32"))[0]), 3)
        1.386
    """
    of_each = keras.losses.sparse_categorical_crossentropy(
        ops.cast(positions, "int32"), ops.transpose(logits, (0, 2, 1)), from_logits=True
    )
    return ops.mean(of_each, axis=-1)


@keras.saving.register_keras_serializable(package="keras_finetune")
def span_accuracy(positions: Any, logits: Any) -> Any:
    """Tell of which rows the best first and the best last token are both right.

    Args:
        positions: (batch, 2) numbers of the first and of the last token.
        logits: (batch, length, 2), as `question_answerer` gives them.

    Returns:
        (batch,) float, 0 or 1.

    Example:
        >>> import numpy as np
        >>> logits = np.array([[[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]]])
        >>> [float(x) for x in span_accuracy(np.array([[1, 2]]), logits)]
        [1.0]
    """
    right = ops.equal(ops.cast(ops.argmax(logits, axis=1), "int32"), ops.cast(positions, "int32"))
    return ops.cast(ops.all(right, axis=-1), "float32")
