"""A task, its tokenizer and its model in one folder."""

import json
import os
from pathlib import Path
from typing import Any

import keras

from keras_finetune.data import Tokenizer
from keras_finetune.suggest import did_you_mean
from keras_finetune.tasks.fitting import hand_on
from keras_finetune.tasks.instruction_tuning import InstructionTuning
from keras_finetune.tasks.language_modeling import LanguageModeling
from keras_finetune.tasks.masked_language_modeling import MaskedLanguageModeling
from keras_finetune.tasks.question_answering import QuestionAnswering
from keras_finetune.tasks.summarization import Summarization
from keras_finetune.tasks.text_classification import TextClassification
from keras_finetune.tasks.translation import Translation
from keras_finetune.tuning.saving import save_without_optimizer

TASKS: dict[str, Any] = {
    task.__name__: task
    for task in (
        InstructionTuning,
        LanguageModeling,
        MaskedLanguageModeling,
        QuestionAnswering,
        Summarization,
        TextClassification,
        Translation,
    )
}


def save(task: Any, model: keras.Model, directory: "str | os.PathLike[str]") -> Path:
    """Write a task and its model to a folder: `task.json`, the tokenizer's files, `model.keras`.

    The optimizer's state, twice the size of the model, is left out. To go on with a run where it
    stopped, keep the model with `model.save` as well.

    Args:
        task: One of the tasks of this package.
        model: What its `build` returned.
        directory: Is made if it is missing.

    Returns:
        The folder.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    save_without_optimizer(model, directory / "model.keras")
    # Not tokenizer.json alone, which knows neither roles of special tokens nor a chat template.
    task.tokenizer.save(directory)
    described = {"task": type(task).__name__, **task.get_config()}
    text = json.dumps(described, indent=2, ensure_ascii=False)
    (directory / "task.json").write_text(text, "utf-8")
    return directory


def load(directory: "str | os.PathLike[str]") -> tuple[Any, keras.Model]:
    """Read what `save` wrote.

    Args:
        directory: The folder.

    Returns:
        The task and the model, compiled with the task's loss and metrics.

    Raises:
        ValueError: The folder is not one that `save` wrote.
    """
    directory = Path(directory)
    missing = [
        name
        for name in ("task.json", "tokenizer.json", "model.keras")
        if not (directory / name).is_file()
    ]
    if missing:
        raise ValueError(
            f"{str(directory)!r} lacks {', '.join(missing)}. Give a folder that "
            "keras_finetune.tasks.save wrote."
        )
    config = json.loads((directory / "task.json").read_text("utf-8"))
    name = config.pop("task")
    if name not in TASKS:
        raise ValueError(f"task.json names the task {name!r}.{did_you_mean(name, TASKS)}")
    tokenizer = Tokenizer.load(directory)
    task = TASKS[name](tokenizer=tokenizer, **config)
    model = keras.saving.load_model(directory / "model.keras")
    task.compile(model)
    hand_on(model, model, tokenizer, getattr(task, "labels", ()))
    return task, model
