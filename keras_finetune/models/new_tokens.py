"""What a layer must know of tokens that come after others which it has seen before."""

from dataclasses import dataclass
from typing import Any

from keras import ops


@dataclass(frozen=True)
class NewTokens:
    """Some new columns of a batch, and what they may see of the columns before them.

    A row's prompt stands at the left of the first `width` columns, and padding after it; what is
    generated comes after `width`, in the same column for all rows. So a column is not a position:
    those count a row's own tokens only.

    Attributes:
        slot: int32 scalar, the column of the first of the new tokens.
        positions: (batch, new) int32, each token's position in its row.
        visible: (batch, new, capacity) bool, the columns that each may attend to.
        real: (batch, new) bool, which are no padding.
        source_mask: (batch, source length), the padding mask of an encoder's output, or None.
    """

    slot: Any
    positions: Any
    visible: Any
    real: Any
    source_mask: Any = None


def new_tokens(
    count: Any, slot: Any, lengths: Any, width: Any, capacity: Any, source_mask: Any = None
) -> NewTokens:
    """Describe the columns `slot` to `slot + count` of a batch.

    Args:
        count: int, how many columns are new.
        slot: int32 scalar, the first of them.
        lengths: (batch,) int32, the tokens of each row's prompt.
        width: int32 scalar, columns that prompts take, padding included.
        capacity: int, columns that there is room for.
        source_mask: (batch, source length), or None.

    Returns:
        What layers must know of them.

    Example:
        >>> import keras, numpy as np
        >>> found = new_tokens(1, 4, np.array([2, 3]), 3, 6)
        >>> keras.ops.convert_to_numpy(found.positions).tolist()
        [[3], [4]]
        >>> keras.ops.convert_to_numpy(found.visible[0, 0]).tolist()
        [True, True, False, True, True, False]
    """
    new = slot + ops.arange(count, dtype="int32")
    columns = ops.arange(capacity, dtype="int32")
    lengths = ops.convert_to_tensor(lengths, dtype="int32")[:, None]
    in_prompt = new[None] < width
    positions = ops.where(in_prompt, new[None], lengths + new[None] - width)
    seen = (columns[None] < lengths) | (columns[None] >= width)
    # Padding sees its own column, so that no row of attention weights is without one.
    own = columns[None, None] == new[None, :, None]
    visible = ((columns[None] <= new[:, None])[None] & seen[:, None]) | own
    real = ~in_prompt | (new[None] < lengths)
    return NewTokens(slot, positions, visible, real, source_mask)
