"""How good is it: reports, metrics, plots."""

from keras_finetune._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "ClassScores": "classification",
        "ClassificationReport": "classification",
        "F1Score": "f1_score",
        "SquadScores": "question_answering",
        "answer_scores": "question_answering",
        "classification_report": "classification",
        "comparison_table": "comparison",
        "log_evidence": "transferability",
        "plot_confusion_matrix": "plots",
        "plot_history": "plots",
        "probe_accuracy": "transferability",
        "squad_scores": "question_answering",
    },
)
