"""Fine-tune language models in Keras 3."""

import sys

from keras_finetune._lazy import attach

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "FineTuner": "tuning",
        "Stage": "tuning",
        "compare_pretrained": "tasks",
        "data": "",
        "evaluation": "",
        "generation": "",
        "gradual_unfreezing": "tuning",
        "linear_probe_then_tune": "tuning",
        "load_model": "loading",
        "load_pretrained": "pretrained",
        "models": "",
        "pretrained": "",
        "save_pretrained": "pretrained",
        "tasks": "",
        "tuning": "",
    },
)

if "keras" in sys.modules:
    # Where Keras is there already, importing its layers costs little, and lets
    # keras.saving.load_model find them. Without Keras this import stays cheap.
    import keras_finetune.loading  # noqa: F401
