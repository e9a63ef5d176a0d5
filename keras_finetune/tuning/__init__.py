"""`FineTuner` and the parts it is made of; each can be used without it."""

from keras_finetune._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Estimate": "estimate",
        "FineTuner": "fine_tuner",
        "FitReport": "report",
        "GroupedOptimizer": "grouped_optimizer",
        "LearningRateGroup": "groups",
        "NaNLossGuard": "nan_guard",
        "Stage": "stages",
        "StageEstimate": "estimate",
        "WarmupDecay": "schedules",
        "Recipe": "recipe",
        "balanced_class_weight": "class_weight",
        "blocks": "selection",
        "carry_state": "optimizer_state",
        "check_fit_data": "checks",
        "check_loss": "label_checks",
        "checkpoint_blocks": "gradient_checkpointing",
        "freeze": "freezing",
        "gradual_unfreezing": "stages",
        "layer_paths": "selection",
        "learning_rate_groups": "groups",
        "linear_probe_then_tune": "stages",
        "roles": "selection",
        "select": "selection",
        "summary_table": "summary",
        "unfreeze": "freezing",
    },
)
