"""The widths that batches of tokens get: few, since compilers work for each."""

# Widths are multiples of this, or of more for long texts.
COLUMNS = 16


def rounded(size: int, multiple: int) -> int:
    """Return the next multiple of a number, or of twice as much, and so on, for great sizes.

    Example:
        >>> [rounded(size, 16) for size in (1, 17, 129)]
        [16, 32, 160]
    """
    while size > 8 * multiple:
        multiple *= 2
    return -(-size // multiple) * multiple
