"""Builders of models and heads, and the layers they are made of.

Importing this package registers its layers with Keras, so that `keras.saving.load_model` finds
them. It imports Keras for that, which nothing here can do without.
"""

from keras_finetune.models.attention import Attention
from keras_finetune.models.cnn_encoder import cnn_encoder
from keras_finetune.models.convolution_block import ConvolutionBlock
from keras_finetune.models.encoder_decoder import encoder_decoder
from keras_finetune.models.feed_forward import FeedForward
from keras_finetune.models.fused import without_xla
from keras_finetune.models.language_model import language_model
from keras_finetune.models.lstm_encoder import lstm_encoder
from keras_finetune.models.lstm_encoder_decoder import lstm_encoder_decoder
from keras_finetune.models.masked_language_model import masked_language_model
from keras_finetune.models.ngram_embedding import NgramEmbedding
from keras_finetune.models.ngram_encoder import ngram_encoder
from keras_finetune.models.pooling import MaskedPooling
from keras_finetune.models.position_embedding import PositionEmbedding
from keras_finetune.models.question_answerer import ForbidPadding, question_answerer
from keras_finetune.models.recurrent_block import RecurrentBlock
from keras_finetune.models.relative_position_bias import RelativePositionBias
from keras_finetune.models.text_classifier import text_classifier
from keras_finetune.models.transformer_block import TransformerBlock
from keras_finetune.models.transformer_decoder import transformer_decoder
from keras_finetune.models.transformer_encoder import transformer_encoder
from keras_finetune.models.vocabulary import GatherPositions, VocabularyBias

__all__ = [
    "Attention",
    "ConvolutionBlock",
    "FeedForward",
    "ForbidPadding",
    "GatherPositions",
    "MaskedPooling",
    "NgramEmbedding",
    "PositionEmbedding",
    "RecurrentBlock",
    "RelativePositionBias",
    "TransformerBlock",
    "VocabularyBias",
    "cnn_encoder",
    "encoder_decoder",
    "language_model",
    "lstm_encoder",
    "lstm_encoder_decoder",
    "masked_language_model",
    "ngram_encoder",
    "question_answerer",
    "text_classifier",
    "transformer_decoder",
    "transformer_encoder",
    "without_xla",
]
