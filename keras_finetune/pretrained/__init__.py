"""Pretrained models in Hugging Face's format, in and out."""

from keras_finetune._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "load_pretrained": "loading",
        "save_pretrained": "saving",
    },
)
