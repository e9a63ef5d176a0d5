"""The folder that a model is written to, in the place of an older one."""

import shutil
import tempfile
from pathlib import Path

from keras_finetune.models.arguments import check_directory

# They belong to one model, and are of no use to another.
_OF_ONE_MODEL = {
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
}


def check_target(directory: Path) -> None:
    """Refuse a place for a model where something else is.

    Raises:
        ValueError: `directory` is a file or in one, or holds something that is no model.
    """
    check_directory(directory)
    held = directory.exists() and any(directory.iterdir())
    if held and not (directory / "config.json").exists():
        raise ValueError(
            f'"{directory}" holds something that is no model, and it would be replaced. Name a '
            "directory that is empty or does not exist."
        )


def put_in_place(directory: Path, new: Path) -> None:
    """Put a complete directory in the place of an older one, with what others put into that.

    Args:
        directory: The place; an older model's weights, tokenizer and `generation_config.json` go.
        new: The complete directory, beside it.
    """
    if not directory.exists():
        new.rename(directory)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{directory.name}-old-", dir=directory.parent))
    directory.rename(old / "model")
    new.rename(directory)
    for path in (old / "model").iterdir():
        stale = path.name.startswith(("model", "pytorch_model"))
        stale |= path.name.removesuffix(".gz") in _OF_ONE_MODEL
        if not stale and not (directory / path.name).exists():
            shutil.move(path, directory / path.name)
    shutil.rmtree(old)
