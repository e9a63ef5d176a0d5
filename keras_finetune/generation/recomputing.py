"""A model run over all tokens again for each new one, where nothing can be kept."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_finetune.generation.compiled import compiled
from keras_finetune.generation.decoder_graph import target_prefix
from keras_finetune.models.vocabulary import take_positions


class RecomputingDecoder:
    """Gives the logits of each row's next token, as `CachedDecoder` does.

    Args:
        model: Gives logits, (batch, length, vocab_size).
    """

    def __init__(self, model: keras.Model) -> None:
        def run(inputs: dict[str, Any], last: Any) -> Any:
            logits = model(inputs, training=False)
            return keras.ops.cast(take_positions(logits, last[:, None]), "float32")

        self._prefix = target_prefix(model)
        # Keras would not tell what is too much, but take one input for another.
        self._names = set(model.input)
        self._model = compiled(model, run, few_shapes=False)

    def start(
        self, prompts: np.ndarray, mask: np.ndarray, room: int, source: Mapping[str, Any]
    ) -> np.ndarray:
        """Read prompts; see `CachedDecoder.start`."""
        self._lengths = mask.sum(1)
        width = int(self._lengths.max())
        self._tokens = np.pad((prompts * mask)[:, :width], ((0, 0), (0, room - 1)))
        self._source = {name: np.asarray(x, np.int32) for name, x in source.items()}
        return self._run()

    def next(self, tokens: np.ndarray) -> np.ndarray:
        """Read one more token of each row; see `CachedDecoder.next`."""
        self._tokens[np.arange(len(tokens)), self._lengths] = tokens
        self._lengths = self._lengths + 1
        return self._run()

    def reorder(self, rows: np.ndarray) -> None:
        """Go on with other rows in the place of these; see `CachedDecoder.reorder`."""
        self._tokens, self._lengths = self._tokens[rows], self._lengths[rows]
        self._source = {name: x[rows] for name, x in self._source.items()}

    def _run(self) -> np.ndarray:
        mask = np.arange(self._tokens.shape[1]) < self._lengths[:, None]
        target = {"token_ids": self._tokens, "padding_mask": mask.astype(np.int32)}
        inputs = self._source | {self._prefix + name: x for name, x in target.items()}
        known = {name: x for name, x in inputs.items() if name in self._names}
        found: np.ndarray = keras.ops.convert_to_numpy(
            self._model(known, (self._lengths - 1).astype(np.int32))
        )
        return found
