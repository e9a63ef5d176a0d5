"""Tasks: encode examples, attach the head, decode predictions, name the metrics."""

from keras_finetune._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Answer": "answer_search",
        "InstructionTuning": "instruction_tuning",
        "LanguageModeling": "language_modeling",
        "MaskedLanguageModeling": "masked_language_modeling",
        "Prediction": "prediction",
        "PretrainedScore": "choosing",
        "PretrainedScores": "choosing",
        "Summarization": "summarization",
        "QuestionAnswering": "question_answering",
        "TextClassification": "text_classification",
        "Translation": "translation",
        "compare_pretrained": "choosing",
        "keras_hub_dataset": "keras_hub",
        "load": "saving",
        "save": "saving",
    },
)
