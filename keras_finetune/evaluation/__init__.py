"""How good is it: reports, metrics, plots."""

from keras_finetune._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "ClassScores": "classification",
        "ClassificationReport": "classification",
        "F1Score": "f1_score",
        "RougeScores": "text_scores",
        "TranslationScores": "text_scores",
        "SquadScores": "question_answering",
        "answer_scores": "question_answering",
        "classification_report": "classification",
        "comparison_table": "comparison",
        "log_evidence": "transferability",
        "plot_confusion_matrix": "plots",
        "plot_history": "plots",
        "probe_accuracy": "transferability",
        "rouge_scores": "text_scores",
        "translation_scores": "text_scores",
        "squad_scores": "question_answering",
    },
)
