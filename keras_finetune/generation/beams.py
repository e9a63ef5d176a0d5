"""Beam search: the most probable continuations, several of them followed at a time."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Beams:
    """The continuations of some prompts that a beam search follows, and those that have ended.

    Each step every prompt's beams are continued with every token, and the most probable ones stay.
    One with an end token is finished; its score is the sum of its tokens' log probabilities divided
    by its length (with the end token) to the power of the length penalty
    ([Wu et al., 2016](https://arxiv.org/abs/1609.08144), section 7, in the form of Hugging Face).

    Args:
        prompts: int, number of prompts.
        size: int, beams of each.
        end_ids: Tokens that end a text.
        length_penalty: float; above 0 favours long texts.
    """

    prompts: int
    size: int
    end_ids: tuple[int, ...]
    length_penalty: float = 1.0
    scores: np.ndarray = field(init=False)
    tokens: list[np.ndarray] = field(init=False)
    finished: list[list[tuple[float, np.ndarray]]] = field(init=False)
    done: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        # All beams of a prompt begin the same: only the first counts at the first step.
        self.scores = np.full((self.prompts, self.size), -np.inf)
        self.scores[:, 0] = 0.0
        self.tokens = [np.zeros(0, np.int32) for _ in range(self.prompts * self.size)]
        self.finished = [[] for _ in range(self.prompts)]
        self.done = np.zeros(self.prompts, bool)

    def step(self, log_probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Continue every beam.

        Args:
            log_probabilities: (prompts * size, vocab_size), of the tokens that come next; minus
                infinity or NaN where one is not possible.

        Returns:
            Two arrays (prompts * size,): the row that each beam now continues, and its new token.
        """
        vocab_size = log_probabilities.shape[-1]
        totals = log_probabilities.reshape(self.prompts, self.size, -1)
        totals = np.where(np.isnan(totals), -np.inf, totals)
        totals = (totals + self.scores[:, :, None]).reshape(self.prompts, -1)
        # Each beam has one continuation for each end token, so that enough go on in any case.
        wanted = min(self.size * (1 + len(self.end_ids)), totals.shape[1])
        best = np.argpartition(-totals, wanted - 1, axis=1)[:, :wanted]
        order = np.argsort(-np.take_along_axis(totals, best, 1), axis=1, kind="stable")
        best = np.take_along_axis(best, order, 1)
        rows = np.repeat(np.arange(self.prompts) * self.size, self.size).reshape(self.scores.shape)
        chosen = np.zeros_like(rows)
        before = self.tokens
        self.tokens = list(before)
        for prompt in np.flatnonzero(~self.done):
            if not np.isfinite(totals[prompt]).any():
                self._finish_all(int(prompt))
                self.done[prompt] = True
                continue
            going_on = 0
            for rank, candidate in enumerate(best[prompt]):
                beam, token = divmod(int(candidate), vocab_size)
                row, score = int(prompt) * self.size + beam, float(totals[prompt, candidate])
                if token in self.end_ids:
                    if rank < self.size and np.isfinite(score):
                        self._finish(int(prompt), score, before[row], 1)
                elif going_on < self.size:
                    place = int(prompt) * self.size + going_on
                    rows[prompt, going_on], chosen[prompt, going_on] = row, token
                    self.scores[prompt, going_on] = score
                    self.tokens[place] = np.append(before[row], np.int32(token))
                    going_on += 1
            self.scores[prompt, going_on:] = -np.inf  # All other tokens end a text.
            self.done[prompt] = self._is_done(int(prompt))
        return rows.ravel(), chosen.ravel().astype(np.int32)

    def best(self) -> list[np.ndarray]:
        """Return the tokens of each prompt's best continuation, an end token left out."""
        found = []
        for prompt in range(self.prompts):
            if not self.done[prompt]:
                self._finish_all(prompt)
            # Where no token was possible at all, nothing has been finished.
            nothing = (0.0, np.zeros(0, np.int32))
            found.append(max(self.finished[prompt], key=lambda pair: pair[0], default=nothing)[1])
        return found

    def _finish_all(self, prompt: int) -> None:
        for beam in range(self.size):
            score = float(self.scores[prompt, beam])
            tokens = self.tokens[prompt * self.size + beam]
            if np.isfinite(score) and len(tokens):
                self._finish(prompt, score, tokens, 0)

    def _finish(self, prompt: int, score: float, tokens: np.ndarray, end: int) -> None:
        score /= (len(tokens) + end) ** self.length_penalty
        self.finished[prompt].append((score, tokens))
        self.finished[prompt].sort(key=lambda pair: -pair[0])
        del self.finished[prompt][self.size :]

    def _is_done(self, prompt: int) -> bool:
        """Whether no beam can become better than what is finished, were it to end now."""
        if len(self.finished[prompt]) < self.size:
            return False
        length = len(self.tokens[prompt * self.size])
        attainable = float(self.scores[prompt].max()) / max(length, 1) ** self.length_penalty
        return attainable <= self.finished[prompt][-1][0]
