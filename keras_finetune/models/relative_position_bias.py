"""Relative positions: attention scores that depend on how far apart two tokens are."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_finetune.models.arguments import check_positive
from keras_finetune.models.new_tokens import NewTokens


@keras.saving.register_keras_serializable(package="keras_finetune")
class RelativePositionBias(keras.layers.Layer):
    """Learn a number for each distance between two tokens and each head, to add to their score.

    Small distances have a number each, greater ones share it in buckets that grow with them. All
    blocks of a stack are given the same numbers. A distance is counted in columns, which in rows of
    several texts (see `packing`) is right for each of them.

    Source: [T5](https://arxiv.org/abs/1910.10683).

    Args:
        num_heads: Number of attention heads.
        num_buckets: Number of buckets; if `bidirectional`, half of them for each direction.
        max_distance: From this distance on there is one bucket for all.
        bidirectional: Whether tokens after a token are told from those before it; else they share
            the bucket of distance 0, and a causal attention never asks for it.
        **kwargs: `name`, `dtype`, `trainable`.

    Call arguments:
        padding_mask: (batch, length); only the length counts.

    Returns:
        (1, num_heads, length, length): for each head, from each token to each other one.

    Raises:
        ValueError: There are too few buckets, or `max_distance` is within those of one distance.

    Example:
        >>> import numpy as np
        >>> tuple(RelativePositionBias(4)(np.ones((2, 5), "int32")).shape)
        (1, 4, 5, 5)
    """

    def __init__(
        self,
        num_heads: int,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive(num_heads=num_heads, num_buckets=num_buckets, max_distance=max_distance)
        exact = num_buckets // (4 if bidirectional else 2)
        if not 0 < exact < max_distance or (bidirectional and num_buckets % 2):
            raise ValueError(
                f"Relative positions need num_buckets of at least {4 if bidirectional else 2}"
                f"{', even,' if bidirectional else ''} and a max_distance above the distances that "
                f"have a bucket each, here {exact}. Received: num_buckets={num_buckets}, "
                f"max_distance={max_distance}."
            )
        self.num_heads = num_heads
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional

    def build(self, padding_mask_shape: Any) -> None:
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.num_buckets, self.num_heads),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )

    def call(self, padding_mask: Any) -> Any:
        length = ops.shape(padding_mask)[1]
        table = ops.cast(self.embeddings, self.compute_dtype)
        # A product, not ops.take: the table's gradient is then no list of rows, one a pair.
        distances = ops.arange(1 - length, length)
        buckets = ops.one_hot(self._buckets(distances), self.num_buckets, dtype=self.compute_dtype)
        by_distance = ops.matmul(ops.transpose(table), ops.transpose(buckets))
        return self._by_pair(by_distance, length)[None]

    def step(self, new: NewTokens) -> Any:
        """Compute what is added to the scores of new tokens.

        Args:
            new: Where the tokens stand.

        Returns:
            (batch, num_heads, new, capacity): from each new token to each column.
        """
        # What a real token may see are its row's tokens up to itself, without gaps but padding.
        places = ops.cumsum(ops.cast(new.visible, "int32"), axis=-1) - 1
        buckets = self._buckets(places - new.positions[:, :, None])
        found = ops.take(self.embeddings, buckets, axis=0)
        return ops.transpose(ops.cast(found, self.compute_dtype), (0, 3, 1, 2))

    def compute_output_shape(self, padding_mask_shape: Any) -> Any:
        return (1, self.num_heads, padding_mask_shape[1], padding_mask_shape[1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "num_buckets": self.num_buckets,
            "max_distance": self.max_distance,
            "bidirectional": self.bidirectional,
        }

    def _buckets(self, distances: Any) -> Any:
        """The bucket of each distance: the place of the other token less that of the token."""
        furthest = self.max_distance
        known = ops.convert_to_tensor(
            relative_buckets(self.num_buckets, furthest, self.bidirectional)
        )
        return ops.take(known, ops.clip(distances, -furthest, furthest) + furthest)

    def _by_pair(self, by_distance: Any, length: Any) -> Any:
        """Lay what each distance has, (heads, 2 * length - 1), out for each pair of tokens."""
        # Rows that are one number longer than those they are read in move by one a row.
        heads, width = self.num_heads, 2 * length - 1
        row = ops.pad(by_distance, ((0, 0), (0, 1)))
        rows = ops.broadcast_to(row[:, None], (heads, length, width + 1))
        flat = ops.reshape(rows, (heads, length * (width + 1)))
        moved = ops.reshape(ops.slice(flat, (0, 0), (heads, length * width)), (heads, length, -1))
        return ops.slice(moved, (0, 0, length - 1), (heads, length, length))


def relative_buckets(num_buckets: int, max_distance: int, bidirectional: bool) -> np.ndarray:
    """Number the buckets of all distances from `-max_distance` to `max_distance`.

    Args:
        num_buckets: How many buckets there are.
        max_distance: From this distance on there is one for all.
        bidirectional: Whether distances above 0 have buckets of their own.

    Returns:
        int32 array of `2 * max_distance + 1` numbers.

    Example:
        >>> relative_buckets(8, 8, False).tolist()
        [7, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    """
    distances = np.arange(-max_distance, max_distance + 1)
    count = num_buckets // 2 if bidirectional else num_buckets
    away = np.abs(distances) if bidirectional else np.maximum(-distances, 0)
    exact = count // 2
    # In float32, as T5 was trained.
    ratio = np.log(np.maximum(away, 1).astype("float32") / exact) / math.log(max_distance / exact)
    shared = exact + (ratio.astype("float32") * (count - exact)).astype("int32")
    found = np.where(away < exact, away, np.minimum(shared, count - 1))
    return (found + count * (bidirectional & (distances > 0))).astype("int32")
