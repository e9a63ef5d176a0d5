"""What a tokenizer puts around two texts that are read together."""

import itertools
from typing import NamedTuple

import tokenizers

# Short texts of which any vocabulary knows at least one.
_PROBES = ("a", "0", ".", "的", " ")


class PairTemplate(NamedTuple):
    """The special tokens around a pair of texts, and the segment ids of all.

    Attributes:
        before: Ids of the special tokens before the first text, BERT's ``[CLS]``.
        between: Ids between the texts.
        after: Ids after the second text.
        segment_ids: Segment ids of: `before`, the first text, `between`, the second text, `after`.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    segment_ids: tuple[int, ...]

    @property
    def num_special_tokens(self) -> int:
        """How many special tokens there are."""
        return len(self.before) + len(self.between) + len(self.after)


def read_pair_template(tokenizer: tokenizers.Tokenizer) -> PairTemplate:
    """Find out what a tokenizer puts around two texts.

    Args:
        tokenizer: A tokenizer of the `tokenizers` library, without truncation and padding.

    Raises:
        ValueError: The tokenizer finds no token in the simplest of texts.

    Example:
        >>> from keras_finetune.data import Tokenizer
        >>> tokenizer = Tokenizer.train(["a b"], kind="char", min_frequency=1, progress=False)
        >>> template = tokenizer.pair_template()
        >>> [tokenizer.id_to_token(ids[0]) for ids in template[:3]], template.segment_ids
        (['[CLS]', '[SEP]', '[SEP]'], (0, 0, 0, 1, 1))
    """
    for probe in _PROBES:
        encoding = tokenizer.encode(probe, probe)
        texts = encoding.sequence_ids
        if 0 in texts and 1 in texts:
            break
    else:
        raise ValueError(f"The tokenizer finds no token in any of {_PROBES}; is it trained?")
    first, second = texts.index(0), texts.index(1)
    between = first + texts.count(0)
    bounds = (0, first, between, second, second + texts.count(1), len(texts))
    ids, types = encoding.ids, encoding.type_ids
    return PairTemplate(
        tuple(ids[:first]),
        tuple(ids[between:second]),
        tuple(ids[bounds[4] :]),
        tuple(types[start] if start < end else 0 for start, end in itertools.pairwise(bounds)),
    )
