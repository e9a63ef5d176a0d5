"""What a layer must know of tokens that come after others which it has seen before."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NewTokens:
    """Some new columns of a batch, and what they may see of the columns before them.

    A row's prompt stands at the left, and padding after it; what is generated comes after the
    longest prompt, in the same column for all rows. So a column is not a position: those count a
    row's own tokens only.

    Attributes:
        slot: int32 scalar, the column of the first of the new tokens.
        positions: (batch, new) int32, each token's position in its row.
        visible: (batch, new, capacity) bool, the columns that each may attend to; one at least.
        real: (batch, new) bool, which are no padding.
        source_mask: (batch, source length) int32, the padding mask of an encoder's output, or None.
    """

    slot: Any
    positions: Any
    visible: Any
    real: Any
    source_mask: Any = None
