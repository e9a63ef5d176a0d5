"""Which tokens are one word together, so that it is hidden whole or not at all."""

import re

import numpy as np

from keras_finetune.data import Tokenizer
from keras_finetune.tasks.word_perplexity import UNSPACED

# A space before a word, in byte-level BPE and in SentencePiece; a piece that goes on, in WordPiece.
_BYTE_LEVEL, _SENTENCE_PIECE, _WORD_PIECE = "\u0120", "\u2581", "##"
# New line, tab and carriage return, as they are and as byte-level BPE writes them.
_BLANK = ("\n", "\t", "\r", "\u010a", "\u0109", "\u010d")
_UNSPACED = re.compile(f"[{UNSPACED}]")
# Their first bytes in UTF-8, E3 to E9 and EF, as byte-level BPE writes them; F0 is emoji as well.
_UNSPACED_BYTES = re.compile("[\u00e3-\u00e9\u00ef]")


class WholeWords:
    """Choose tokens by whole words.

    A piece of WordPiece that begins with `##`, or one of BPE or SentencePiece without the mark of a
    space before it, belongs to the word before; one that begins with a Chinese character or kana is
    a word. Special tokens are words by themselves, and a text begins with a new word. The method is
    that of BERT's later checkpoints (https://github.com/google-research/bert, "whole word
    masking").

    Args:
        tokenizer: What makes the tokens.

    Raises:
        ValueError: The tokenizer does not mark words, as one of single characters.

    Example:
        >>> texts = ["unbelievable words", "believe a word"] * 4
        >>> tokenizer = Tokenizer.train(texts, 60, "wordpiece", progress=False)
        >>> ids = np.array([tokenizer.encode("unbelievable word")])
        >>> WholeWords(tokenizer).begins(ids, np.ones_like(ids)).sum()  # [CLS], 2 words, [SEP]
        np.int64(4)
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokens = [tokenizer.id_to_token(number) or "" for number in range(tokenizer.vocab_size)]
        marks = (_BYTE_LEVEL, _SENTENCE_PIECE, _WORD_PIECE)
        # Any vocabulary may have a token or two with the mark of another kind.
        marked = {
            mark: np.array([t.startswith(mark) and t != mark for t in tokens]) for mark in marks
        }
        mark = max(marks, key=lambda each: int(marked[each].sum()))
        if not marked[mark].any():
            raise ValueError(
                "whole_word=True needs a tokenizer whose tokens show where a word begins: "
                'WordPiece, byte-level BPE or SentencePiece. Train one with kind="wordpiece" or '
                '"bpe", or use whole_word=False.'
            )
        special = np.array([token in tokenizer.special_tokens.values() for token in tokens])
        if mark == _WORD_PIECE:
            self._begins, self._ends = ~marked[mark], special
        else:
            blank = np.array([token.startswith(_BLANK) for token in tokens])
            space = np.array([token.startswith(mark) for token in tokens])
            pattern = _UNSPACED_BYTES if mark == _BYTE_LEVEL else _UNSPACED
            unspaced = np.array([pattern.match(token) is not None for token in tokens])
            self._begins = space | blank | special | unspaced
            self._ends = special | np.array([token.endswith(_BLANK) for token in tokens])

    def begins(self, token_ids: np.ndarray, text_starts: np.ndarray) -> np.ndarray:
        """Say at which tokens a word begins.

        Args:
            token_ids: (batch, length) int.
            text_starts: (batch, length) int, one plus the column at which the token's text begins.

        Returns:
            (batch, length) bool.
        """
        found: np.ndarray = self._begins[token_ids]
        found[:, 1:] |= self._ends[token_ids[:, :-1]]
        found |= text_starts == np.arange(1, token_ids.shape[1] + 1)
        return found

    def choose(
        self,
        token_ids: np.ndarray,
        text_starts: np.ndarray,
        most: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Choose words by chance, passing over those that are too long for what is left.

        Args:
            token_ids: (batch, length) int.
            text_starts: (batch, length) int, as for `begins`; 0 on padding, which is not chosen.
            most: (batch,) int, how many tokens to choose in each row at most.
            rng: Where chance comes from.

        Returns:
            (batch, length) bool, true for all tokens of a chosen word.
        """
        chosen = np.zeros(token_ids.shape, bool)
        begins = self.begins(token_ids, text_starts)
        for row, left in enumerate(most.tolist()):
            real = text_starts[row] > 0
            word = begins[row][real].cumsum() - 1
            sizes = np.bincount(word)
            taken = np.zeros(len(sizes), bool)
            for number in rng.permutation(len(sizes)):
                if sizes[number] <= left:
                    taken[number] = True
                    left -= sizes[number]
                if not left:
                    break
            chosen[row, real] = taken[word]
        return chosen
