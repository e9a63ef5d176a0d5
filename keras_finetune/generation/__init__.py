"""Generation: texts from a language model, token by token."""

from keras_finetune._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "generate": "generating",
        "stream": "generating",
    },
)
