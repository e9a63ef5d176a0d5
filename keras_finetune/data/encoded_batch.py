"""Token ids of many texts in flat arrays."""

import concurrent.futures
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers

from keras_finetune.data.text_checks import refuse_surrogates

# Texts encoded at a time: the library's encodings are many times larger than their ids.
_BATCH = 4_096


@dataclasses.dataclass(frozen=True)
class EncodedBatch:
    """Token ids of many texts, one after the other in flat arrays.

    Attributes:
        token_ids: All ids, int32, shape ``(offsets[-1],)``.
        offsets: Where each text begins, and the end: int64, shape ``(texts + 1,)``.
        segment_ids: For pairs, as the tokenizer numbers them (BERT's: 0 for the first text and 1
            for the second; GPT-2's and RoBERTa's: 0), int32, shape as `token_ids`; else None.
        char_spans: Where in its text each token stands, if that was asked for: its first
            character and the one after its last, int32, shape ``(offsets[-1], 2)``; else None.
    """

    token_ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    segment_ids: npt.NDArray[np.int32] | None = None
    char_spans: npt.NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> npt.NDArray[np.int32]:
        row = range(len(self))[row]
        return self.token_ids[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The number of tokens of each text."""
        return np.diff(self.offsets)


def encode_all(
    encoder: tokenizers.Tokenizer,
    inputs: Sequence[Any],
    paired: bool,
    special_tokens: bool,
    first_row: int = 0,
    char_spans: bool = False,
) -> EncodedBatch:
    """Encode texts, or tuples of two texts, with a tokenizer of the `tokenizers` library.

    Args:
        encoder: The tokenizer, set to truncate or not.
        inputs: The texts or pairs, already checked to be `str`.
        paired: Whether they are pairs.
        special_tokens: Whether to add the special tokens.
        first_row: Number of the first text in its source, for error messages.
        char_spans: Whether to say where each token stands, which takes longer.
    """
    # The fast one does not keep track of characters.
    run = encoder.encode_batch if char_spans else encoder.encode_batch_fast

    def encode(start: int) -> Any:
        batch = inputs[start : start + _BATCH]
        try:
            return run(batch, add_special_tokens=special_tokens)
        except TypeError:
            refuse_surrogates(batch, first_row + start)
            raise

    lengths = np.zeros(len(inputs) + 1, np.int64)
    token_ids = [np.zeros(0, np.int32)]
    segment_ids = [np.zeros(0, np.int32)]
    spans = [np.zeros(0, np.int32)]
    starts = range(0, len(inputs), _BATCH)
    for start, encodings in zip(starts, _one_ahead(encode, starts), strict=True):
        rows = [encoding.ids for encoding in encodings]
        lengths[start + 1 : start + 1 + len(rows)] = list(map(len, rows))
        token_ids.append(_flat(rows))
        if paired:
            segment_ids.append(_flat([encoding.type_ids for encoding in encodings]))
        if char_spans:
            pairs = (itertools.chain.from_iterable(encoding.offsets) for encoding in encodings)
            spans.append(_flat([list(flat) for flat in pairs]))
    return EncodedBatch(
        np.concatenate(token_ids),
        np.cumsum(lengths),
        np.concatenate(segment_ids) if paired else None,
        np.concatenate(spans).reshape(-1, 2) if char_spans else None,
    )


def _one_ahead(encode: Callable[[int], Any], starts: Sequence[int]) -> Iterator[Any]:
    """Encode the next batch, which needs no interpreter lock, while one is made into arrays."""
    if len(starts) < 2:
        yield from map(encode, starts)
        return
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(encode, starts[0])
        for start in starts[1:]:
            done, waiting = waiting, pool.submit(encode, start)
            yield done.result()
        yield waiting.result()


def _flat(rows: list[list[int]]) -> npt.NDArray[np.int32]:
    return np.fromiter(itertools.chain.from_iterable(rows), np.int32, sum(map(len, rows)))
