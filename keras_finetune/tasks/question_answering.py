"""Extractive question answering: find the answer to a question in a text."""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_finetune.data import Examples, Tokenizer, make_dataset, read
from keras_finetune.data.int_checks import checked_int
from keras_finetune.evaluation import SquadScores, answer_scores, squad_scores
from keras_finetune.models import question_answerer
from keras_finetune.models.question_answerer import span_accuracy, span_loss
from keras_finetune.tasks.answer_search import (
    Answer,
    Found,
    best_threshold,
    find_answers,
    window_logits,
)
from keras_finetune.tasks.answer_targets import alignment_report, count_inexact
from keras_finetune.tasks.answer_windows import Windows, choose_layout
from keras_finetune.tasks.fitting import (
    check_backbone,
    check_tokenizer,
    hand_on,
    takes_segment_ids,
    tokenizer_for,
)
from keras_finetune.tasks.question_reader import QuestionReader

_QUESTIONS_AT_A_TIME = 1_000
_CONFIG = (
    *("max_length", "stride", "max_answer_length", "question", "context", "answers", "id"),
    *("unanswerable", "null_threshold", "null_position", "f1_by", "segment_ids"),
)


class _Part(NamedTuple):
    """Some questions: what was found, the right answers, and how many of these are inexact."""

    found: list[Found]
    references: list[list[str]]
    inexact: int


class QuestionAnswering:
    """Find the answer to a question in a text, as a span of it.

    Rows are as in TFDS's ``squad``: `answers` is ``{"text": [...], "answer_start": [...]}``, with
    starts in characters. A context that is too long becomes several windows that overlap; where the
    answer is not in a window, the model learns to point at its null position.

    Source: [BERT](https://arxiv.org/abs/1810.04805), sections 4.2 and 4.3.

    Args:
        tokenizer: What turns text into token ids. Default: the pretrained backbone's own, once
            the task has been built on one.
        max_length: int, tokens of a window: question, special tokens, and as much of the context
            as there is room for.
        stride: int, tokens of the context that neighbouring windows share.
        max_answer_length: int, tokens of an answer that is predicted, at most.
        question: Name of the question column.
        context: Name of the column of texts.
        answers: Name of the answer column.
        id: Name of the column of ids, which reports name questions by, where there is one.
        unanswerable: Whether a text may hold no answer, as in SQuAD 2.0.
        null_threshold: float, by how much "no answer" must score higher than the best answer to be
            given; see `tune_threshold`.
        null_position: Where a window's "no answer" is: at its `"first"` token, [CLS], or at its
            `"last"`, as a causal model needs it; None until `build`, which sees what suits.
        f1_by: What the F1 of `evaluate` counts: `"words"`, or `"characters"` for Chinese.
        segment_ids: Whether data sets say which tokens are the context's; None until `build`,
            which sees whether the backbone takes them.

    Example:
        >>> import keras_finetune as kft
        >>> context = "The Nile is in Africa."
        >>> rows = {"question": ["Where is the Nile?"] * 8, "context": [context] * 8,
        ...         "answers": [{"text": ["in Africa"], "answer_start": [12]}] * 8}
        >>> tokenizer = kft.data.Tokenizer.train([context], vocab_size=300, progress=False)
        >>> task = kft.tasks.QuestionAnswering(tokenizer, max_length=64, stride=16)
        >>> backbone = kft.models.lstm_encoder(
        ...     tokenizer.vocab_size, hidden_dim=16, bidirectional=True)
        >>> tuner = kft.FineTuner(task.build(backbone))
        >>> history = tuner.fit(task.dataset(rows), epochs=2, verbose=0)
        >>> answer = task.predict(tuner.model, [("Where is the Nile?", context)])[0]
        >>> answer.text == context[answer.start : answer.end]
        True
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None = None,
        *,
        max_length: int = 384,
        stride: int = 128,
        max_answer_length: int = 30,
        question: str = "question",
        context: str = "context",
        answers: str = "answers",
        id: str = "id",
        unanswerable: bool = False,
        null_threshold: float = 0.0,
        null_position: str | None = None,
        f1_by: str = "words",
        segment_ids: bool | None = None,
    ) -> None:
        check_tokenizer(tokenizer)
        self.max_length = checked_int("max_length", max_length, 8)
        if not 0 <= stride < max_length:
            raise ValueError(
                "stride, the tokens that neighbouring windows share, must be from 0 to max_length "
                f"- 1; a third is usual: stride={max_length // 3}. Received: stride={stride!r}, "
                f"max_length={max_length!r}"
            )
        if max_answer_length < 1:
            raise ValueError(
                f"max_answer_length must be at least 1. Received: {max_answer_length!r}"
            )
        if null_position not in (None, "first", "last"):
            raise ValueError(
                f'null_position must be "first", "last" or None. Received: {null_position!r}'
            )
        if f1_by not in ("words", "characters"):
            raise ValueError(f'f1_by must be "words" or "characters". Received: {f1_by!r}')
        self.tokenizer = tokenizer
        self.stride = stride
        self.max_answer_length = max_answer_length
        self.question = question
        self.context = context
        self.answers = answers
        self.id = id
        self.unanswerable = unanswerable
        self.null_threshold = null_threshold
        self.null_position = null_position
        self.f1_by = f1_by
        self.segment_ids = segment_ids

    def build(
        self, backbone: keras.Model, *, learning_rate: float = 1e-3, **head_args: Any
    ) -> keras.Model:
        """Put a head for question answering on a backbone and compile the model with its loss.

        Args:
            backbone: From a builder in `keras_finetune.models`, or from `load_pretrained`.
            learning_rate: float, AdamW's, until `FineTuner.compile` says otherwise.
            **head_args: Further arguments of `keras_finetune.models.question_answerer`: `dropout`.

        Returns:
            A Keras model that gives logits, (batch, length, 2) float32.

        Raises:
            ValueError: The backbone does not fit the tokenizer or `max_length`.
        """
        tokenizer = tokenizer_for(backbone, self.tokenizer)
        check_backbone(backbone, tokenizer, self.max_length)
        layers = backbone._flatten_layers(include_self=False)
        if self.null_position is None and any(getattr(x, "causal", False) for x in layers):
            # The first token of a causal model has seen nothing, and can say nothing.
            self.null_position = "last"
        choose_layout(tokenizer, self.null_position)
        self.tokenizer, self.segment_ids = tokenizer, takes_segment_ids(backbone)
        model = question_answerer(backbone, **head_args)
        hand_on(model, backbone, tokenizer)
        self.compile(model, learning_rate=learning_rate)
        return model

    def compile(self, model: keras.Model, *, learning_rate: float = 1e-3) -> None:
        """Compile a model with this task's loss and metric, as `build` does.

        The loss is the mean of the cross entropies of first and last token; the accuracy is the
        share of windows in which both are right.

        Args:
            model: Gives logits, (batch, length, 2).
            learning_rate: float, AdamW's, until `FineTuner.compile` says otherwise.
        """
        accuracy = keras.metrics.MeanMetricWrapper(span_accuracy, name="accuracy")
        model.compile(keras.optimizers.AdamW(learning_rate), loss=span_loss, metrics=[accuracy])

    def dataset(
        self,
        examples: Any,
        *,
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int = 0,
        tokens_per_batch: int | None = None,
    ) -> Any:
        """Encode questions with their answers, once, and return them as a `tf.data` pipeline.

        Of several answers to a question the one given most often is learned. An answer that begins
        or ends inside a token is learned with the whole token; a question whose answer no window
        holds is left out. Both are counted in the attribute `alignment` of what is returned, and
        said on standard error.

        Args:
            examples: `Examples`, or whatever `keras_finetune.data.read` takes.
            batch_size: int, windows in a batch.
            shuffle: Whether every epoch has an order of its own; a function of seed and epoch.
            seed: int.
            tokens_per_batch: int, tokens in a batch, padding included, in place of `batch_size`.

        Returns:
            A `tf.data.Dataset` of `({"token_ids": (batch, length) int32, "padding_mask": (batch,
            length) bool, "segment_ids": (batch, length) int32}, positions)`, without segment ids
            where the backbone takes none; positions are (batch, 2) int32, of the answer's first
            and last token.

        Raises:
            ValueError: A column is missing, a question or a context is empty, or an answer is not
                where its `answer_start` says; names the row.
        """
        examples = read(examples)
        reader = self._reader()
        store = reader.store(examples)
        report = alignment_report(
            examples, store.column("row")[:], store.column("widened")[:].astype(bool), self.id
        )
        if report.widened or report.left_out:
            print(f"Answers: {report}", file=sys.stderr)
        if store.num_rows == 0:
            raise ValueError(
                f"No answer is in a window: {report} Raise max_length, or lower the question's "
                "share of it."
            )
        names = ["token_ids", "padding_mask"]
        if self.segment_ids is not False:
            names.append("segment_ids")

        def features(batch: dict[str, np.ndarray], rng: np.random.Generator) -> tuple[Any, ...]:
            return {name: batch[name] for name in names}, batch["positions"]

        dataset = make_dataset(
            store,
            features,
            pad_values={"token_ids": reader.pad_id},
            max_length=self.max_length,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            tokens_per_batch=tokens_per_batch,
        )
        dataset.alignment = report
        return dataset

    def predict(
        self, model: keras.Model, rows: Any, *, n_best: int = 1, batch_size: int = 64
    ) -> list[Answer]:
        """Answer questions.

        Args:
            model: From `build`.
            rows: A list of (question, context), or examples with the task's columns of both.
            n_best: int, how many answers to list, at most.
            batch_size: int, windows computed at a time.

        Returns:
            An answer to each question, in order.

        Raises:
            ValueError: A question or a context is empty (names the row), or the model gives NaN.
        """
        if n_best < 1:
            raise ValueError(f"n_best must be at least 1. Received: {n_best!r}")
        if isinstance(rows, str):
            raise ValueError(
                f"predict takes a list of (question, context). Received one text: {rows!r:.100}"
            )
        if isinstance(rows, list | tuple) and not (rows and isinstance(rows[0], dict)):
            if not rows:
                return []
            if not all(isinstance(row, list | tuple) and len(row) == 2 for row in rows):
                raise ValueError(
                    f"predict takes a list of (question, context). Received: {rows[:2]!r:.100}"
                )
            questions, contexts = zip(*rows, strict=True)
            rows = {self.question: list(questions), self.context: list(contexts)}
        found = self._find(model, read(rows), n_best=n_best, batch_size=batch_size)
        return [self._answer(each) for part in found for each in part.found]

    def evaluate(self, model: keras.Model, examples: Any, *, batch_size: int = 64) -> SquadScores:
        """Compare a model's answers with the right ones.

        Args:
            model: From `build`.
            examples: Questions with answers, as for `dataset`.
            batch_size: int, windows computed at a time.

        Returns:
            Exact match and F1 in per cent, as SQuAD 2.0 counts them if the task is `unanswerable`,
            else as SQuAD 1.1 does; `inexact` counts the questions none of whose answers is a whole
            number of tokens.
        """
        parts = list(self._find(model, read(examples), answered=True, batch_size=batch_size))
        answers = [self._answer(found).text for part in parts for found in part.found]
        references = [texts for part in parts for texts in part.references]
        version = "2.0" if self.unanswerable else "1.1"
        scores = squad_scores(answers, references, version=version, f1_by=self.f1_by)
        return dataclasses.replace(scores, inexact=sum(part.inexact for part in parts))

    def tune_threshold(self, model: keras.Model, validation: Any, *, batch_size: int = 64) -> float:
        """Choose the `null_threshold` that gives the best F1 on validation data, and keep it.

        Args:
            model: From `build`, trained.
            validation: Questions with and without an answer; not those of the final test.
            batch_size: int, windows computed at a time.

        Returns:
            The threshold.

        Raises:
            ValueError: The task is not `unanswerable`, or all questions have an answer, or none.
        """
        if not self.unanswerable:
            raise ValueError(
                "There is no threshold to tune: every question has an answer. Make the task with "
                "QuestionAnswering(..., unanswerable=True)."
            )
        parts = list(self._find(model, read(validation), answered=True, batch_size=batch_size))
        found = [each for part in parts for each in part.found]
        references = [texts for part in parts for texts in part.references]
        if len({bool(texts) for texts in references}) == 1:
            raise ValueError(
                "Tuning the threshold needs questions with an answer and questions without. "
                f"Received: {len(references)} questions that all have "
                f"{'one' if references[0] else 'none'}."
            )
        best = [each.answers[0].text if each.answers else "" for each in found]
        _, answering = answer_scores(best, references, f1_by=self.f1_by)
        _, refusing = answer_scores([""] * len(best), references, f1_by=self.f1_by)
        margins = np.array([each.null_margin for each in found])
        self.null_threshold = best_threshold(margins, answering - refusing)
        return self.null_threshold

    def windows(self, questions: Sequence[str], contexts: Sequence[str]) -> Windows:
        """Encode questions and their contexts without a data set, as a server does.

        Args:
            questions: The questions.
            contexts: The text of each.

        Returns:
            The rows of a model; `Windows.batch` pads some of them.
        """
        return self._reader().windows(questions, contexts)

    def decode(
        self, logits: Sequence[Any], windows: Windows, contexts: Sequence[str], *, n_best: int = 1
    ) -> list[Answer]:
        """Turn logits that were computed elsewhere into answers.

        Args:
            logits: For each window (length, 2) float, padding included or not.
            windows: From `windows`.
            contexts: The text of each question.
            n_best: int, how many answers to list, at most.

        Returns:
            An answer to each question.

        Raises:
            ValueError: There are not as many logits as windows, or one is NaN or infinite.
        """
        if len(logits) != len(windows.lengths):
            raise ValueError(
                f"There are {len(windows.lengths)} windows, but logits of {len(logits)}. Compute "
                "them on these windows, in this order."
            )
        return [self._answer(each) for each in self._search(logits, windows, contexts, n_best)]

    def get_config(self) -> dict[str, Any]:
        """Return what the task was made with, but for the tokenizer."""
        return {name: getattr(self, name) for name in _CONFIG}

    def _reader(self) -> QuestionReader:
        if self.tokenizer is None:
            raise ValueError(
                "The task has no tokenizer yet. Give it one, QuestionAnswering(tokenizer), or "
                "first build it on a backbone from load_pretrained."
            )
        return QuestionReader(
            self.tokenizer,
            choose_layout(self.tokenizer, self.null_position),
            self.max_length,
            self.stride,
            (self.question, self.context, self.answers),
            self.unanswerable,
        )

    def _find(
        self,
        model: keras.Model,
        examples: Examples,
        *,
        answered: bool = False,
        n_best: int = 1,
        batch_size: int,
    ) -> Iterator[_Part]:
        """Search a part of the questions at a time: what they need in memory is large."""
        reader, first_row = self._reader(), 0
        examples.check_columns(reader.columns if answered else reader.columns[:2])
        for chunk in examples.chunks(_QUESTIONS_AT_A_TIME):
            contexts = chunk[self.context]
            windows = reader.windows(chunk[self.question], contexts, first_row)
            answers = reader.answers(chunk, first_row) if answered else [[] for _ in contexts]
            logits = window_logits(model, windows, batch_size=batch_size, pad_id=reader.pad_id)
            yield _Part(
                self._search(logits, windows, contexts, n_best),
                [
                    [context[start:end] for start, end in spans]
                    for context, spans in zip(contexts, answers, strict=True)
                ],
                count_inexact(windows, answers),
            )
            first_row += len(contexts)

    def _search(
        self, logits: Sequence[Any], windows: Windows, contexts: Sequence[str], n_best: int
    ) -> list[Found]:
        return find_answers(
            windows,
            logits,
            contexts,
            max_answer_length=self.max_answer_length,
            unanswerable=self.unanswerable,
            n_best=n_best,
        )

    def _answer(self, found: Found) -> Answer:
        null = found.null_probability if self.unanswerable else None
        if not found.answers or (self.unanswerable and found.null_margin > self.null_threshold):
            return Answer("", 0, 0, found.null_probability, null, found.answers)
        best = found.answers[0]
        return dataclasses.replace(best, null_probability=null, n_best=found.answers)
