"""How much of the disk caches may take."""

import math
import os
import shutil
from pathlib import Path


def disk_budget(folder: Path) -> int:
    """Tell how many bytes of the disk caches may take.

    That is the number of gigabytes in `$KERAS_FINETUNE_CACHE_GB`, else half of what is free.

    Args:
        folder: Where caches are, or will be.

    Raises:
        ValueError: `$KERAS_FINETUNE_CACHE_GB` is no number of gigabytes.
    """
    chosen = os.environ.get("KERAS_FINETUNE_CACHE_GB")
    if chosen:
        gigabytes = _number(chosen)
        if not 0 <= gigabytes < math.inf:
            raise ValueError(
                "KERAS_FINETUNE_CACHE_GB must be a number of gigabytes, such as 20, or 0 for no "
                f"caches. Received: {chosen!r}"
            )
        return int(gigabytes * 1e9)
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free // 2


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
