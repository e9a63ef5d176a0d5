"""Fine-tune language models in Keras 3."""

from keras_finetune._lazy import attach

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "FineTuner": "tuning",
        "Stage": "tuning",
        "data": "",
        "evaluation": "",
        "gradual_unfreezing": "tuning",
        "linear_probe_then_tune": "tuning",
        "models": "",
        "tasks": "",
        "tuning": "",
    },
)
