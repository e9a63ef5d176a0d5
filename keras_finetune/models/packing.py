"""Several texts in one row: which tokens share a text, and where in it they are.

A padding mask is 0 where there is padding. On a token it is one plus the column at which the
token's text begins: so 1 in a row of one text, as in an ordinary mask, and in a row of three texts
of two tokens each 1, 1, 3, 3, 5, 5. Tokens of other texts are not attended to, and positions count
from the beginning of the text, so that a packed row gives what its texts give one by one.
"""

from typing import Any

from keras import ops


def positions(padding_mask: Any) -> Any:
    """Tell each token's position in its text.

    Args:
        padding_mask: (batch, length) int32.

    Returns:
        (batch, length) int32; what stands where there is padding is of no use.

    Example:
        >>> import keras, numpy as np
        >>> found = positions(np.array([[1, 1, 3, 3, 3, 0]]))
        >>> keras.ops.convert_to_numpy(found).tolist()
        [[0, 1, 0, 1, 2, 5]]
    """
    columns = ops.arange(ops.shape(padding_mask)[1], dtype="int32")
    return columns - ops.maximum(ops.cast(padding_mask, "int32") - 1, 0)


def same_text(padding_mask: Any) -> Any:
    """Tell which tokens may attend to which, each pair of a row.

    Args:
        padding_mask: (batch, length) int32.

    Returns:
        (batch, length, length) bool, from the second axis to the third. What stands in the place of
        padding may attend to all tokens, so that no row of attention weights is without one.
    """
    source, target = padding_mask[:, None, :], padding_mask[:, :, None]
    return (source > 0) & ((source == target) | (target == 0))


def same_text_at(padding_mask: Any, positions: Any) -> Any:
    """Tell what tokens at some positions may attend to: those rows of `same_text`.

    Args:
        padding_mask: (batch, length) int32.
        positions: (batch, count) int32.

    Returns:
        (batch, count, length) bool.
    """
    source = ops.cast(padding_mask, "int32")
    target = ops.take_along_axis(source, positions, axis=1)[:, :, None]
    source = source[:, None, :]
    return (source > 0) & ((source == target) | (target == 0))
