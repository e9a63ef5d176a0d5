"""Models from the Hugging Face hub."""

from pathlib import Path

SCHEME = "hf://"
# No pickles, no code.
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model"]


def download(address: str) -> Path:
    """Download a model to the hub's cache directory, or find it there.

    Args:
        address: `"hf://organisation/name"`, with `"@revision"` after it if need be.

    Returns:
        The directory; see `HF_HOME` and `HF_HUB_OFFLINE` in the hub's own documentation.

    Raises:
        ValueError: The address is malformed.
        FileNotFoundError: The hub has no such model, or does not show it to this user.
        ConnectionError: The hub cannot be reached and the cache does not have the model.
        ImportError: `huggingface_hub` is not installed.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors, utils
    except ImportError as error:
        raise ImportError(f'{address} needs: pip install "keras_finetune[huggingface]"') from error
    name, _, revision = address.removeprefix(SCHEME).partition("@")
    try:
        utils.validate_repo_id(name)  # type: ignore[attr-defined]
    except errors.HFValidationError as error:
        raise ValueError(f'"{address}" is no "hf://organisation/name": {error}') from error
    try:
        found = huggingface_hub.snapshot_download(
            name, revision=revision or None, allow_patterns=_WANTED
        )
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise FileNotFoundError(
            f'The hub has no model "{name}"{f" at {revision}" if revision else ""}, or it is '
            "gated: then log in with `hf auth login`."
        ) from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        raise ConnectionError(
            f'"{address}" is not in the cache directory, and the hub cannot be reached. Download '
            "it where there is a network and give its directory: load_pretrained(path)."
        ) from error
    return Path(found)
