"""A head that predicts masked tokens."""

import keras

from keras_finetune.models.activation import activation_function
from keras_finetune.models.features import backbone_features, backbone_inputs
from keras_finetune.models.normalization import make_norm
from keras_finetune.models.vocabulary import GatherPositions, token_embedding, vocabulary_scores


def masked_language_model(
    backbone: keras.Model,
    *,
    tied: bool = True,
    activation: str = "gelu",
    norm_epsilon: float = 1e-12,
    name: str = "masked_language_model",
) -> keras.Model:
    """Put BERT's masked-language-model head on a backbone.

    Only the masked positions are projected to the vocabulary, which is most of the work.
    Source: [BERT](https://arxiv.org/abs/1810.04805).

    Args:
        backbone: From `transformer_encoder`, `lstm_encoder` (both directions) or any that sees both
            sides; a functional model with dict inputs and a layer `token_embedding`.
        tied: Share the matrix of `token_embedding`; else `head_projection` has its own.
        activation: Of the dense layer before the projection; not a gated one.
        norm_epsilon: Of the layer normalization after it.
        name: The model's name.

    Returns:
        A functional model from the backbone's inputs and `mask_positions` (batch, num_masked)
        int32 to float32 logits (batch, num_masked, vocab_size). Rows with fewer masked tokens
        fill up `mask_positions` with any position and get a sample weight of 0 there.

    Raises:
        ValueError: The backbone does not see the future, or has no token embedding; or an
            argument's name is not known.

    Example:
        >>> from keras_finetune.models import transformer_encoder
        >>> backbone = transformer_encoder(100, num_layers=1, num_heads=2, hidden_dim=16)
        >>> masked_language_model(backbone).output_shape
        (None, None, 100)
    """
    looking = [layer for layer in backbone.layers if hasattr(layer, "causal")]
    if looking and all(layer.causal for layer in looking):
        raise ValueError(
            f"A masked language model needs a backbone that sees both sides, but "
            f"{looking[0].name!r} of {backbone.name!r} does not see what follows a hidden token. "
            f"Use transformer_encoder or lstm_encoder(bidirectional=True), or language_model "
            f"(LanguageModeling)."
        )
    features, inputs = backbone_features(backbone), backbone_inputs(backbone)
    if not isinstance(inputs, dict):
        raise ValueError(
            f"The backbone must have dict inputs, so that mask_positions can be one more. Received "
            f"a model {backbone.name!r} with the inputs {inputs}."
        )
    function, gated = activation_function(activation)
    if gated:
        raise ValueError(f'The dense layer has no gated activation ("{activation}"). Use "gelu".')
    positions = keras.Input((None,), dtype="int32", name="mask_positions")
    x = GatherPositions(name="head_gather")(features, positions)
    width = token_embedding(backbone).output_dim if tied else x.shape[-1]
    x = keras.layers.Dense(width, activation=function, name="head_transform")(x)
    x = make_norm("layer", norm_epsilon, name="head_norm")(x)
    logits = vocabulary_scores(backbone, x, tied=tied, bias=True)
    return keras.Model({**inputs, "mask_positions": positions}, logits, name=name)
