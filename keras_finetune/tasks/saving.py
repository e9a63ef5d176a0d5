"""A task, its tokenizer and its model in one folder."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import keras

from keras_finetune.data import Tokenizer
from keras_finetune.models.arguments import check_directory, check_keras_model, checked_path
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

    Raises:
        ValueError: `model` is no Keras model, or `directory` no path or that of a file.
    """
    directory = checked_path("directory", directory)
    check_keras_model("Saving a task", model)
    check_directory(directory)
    directory.mkdir(parents=True, exist_ok=True)
    described = {"task": type(task).__name__, **task.get_config()}
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=directory) as folder:
        new = Path(folder)
        save_without_optimizer(model, new / "model.keras")
        # Not tokenizer.json alone, which knows neither roles of special tokens nor a template.
        task.tokenizer.save(new)
        text = json.dumps(described, indent=2, ensure_ascii=False)
        (new / "task.json").write_text(text, "utf-8")
        # Last, and away until then: if this is broken off, no older task's stands by the new model.
        (directory / "task.json").unlink(missing_ok=True)
        for path in sorted(new.iterdir(), key=lambda path: path.name == "task.json"):
            os.replace(path, directory / path.name)
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
    directory = checked_path("directory", directory)
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
    name, config = _read_description(directory / "task.json")
    tokenizer = Tokenizer.load(directory)
    task = TASKS[name](tokenizer=tokenizer, **config)
    model = keras.saving.load_model(directory / "model.keras")
    task.compile(model)
    hand_on(model, model, task.tokenizer, getattr(task, "labels", ()))
    return task, model


def _read_description(path: Path) -> tuple[str, dict[str, Any]]:
    """The name of a task's class, and what it was made with."""
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{str(path)!r} is no JSON ({error}). It may have been cut off: save the task again."
        ) from error
    if not isinstance(config, dict) or "task" not in config:
        raise ValueError(
            f"{str(path)!r} must be an object with the key 'task', as keras_finetune.tasks.save "
            f"writes it. Received: {str(config)[:100]}"
        )
    name = config.pop("task")
    if name not in TASKS:
        raise ValueError(f"task.json names the task {name!r}.{did_you_mean(name, TASKS)}")
    return name, config
