"""Whose a folder is: what a killed process left is removed, and a living one's is left alone."""

import os
import platform
import re
import secrets


def process_mark() -> str:
    """Make a name for a folder of this process, which no other will have."""
    return f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"


def is_of_dead_process(mark: str) -> bool:
    """Tell whether the process that made a mark has ended, as far as is known here.

    Args:
        mark: From `process_mark`; any other text is of no process.

    Returns:
        False for a process of another machine, on a shared disk, of which nothing is known.

    Example:
        >>> is_of_dead_process(process_mark())
        False
    """
    parts = re.fullmatch(r"(.*)-(\d+)-\w+", mark)
    return parts is not None and parts[1] == platform.node() and not _is_running(int(parts[2]))


def _is_running(process: int) -> bool:
    if os.name != "posix":  # Where asking would end the process.
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
