"""From rows of questions to windows, and to a store of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras_finetune.data import Examples, Store, Tokenizer
from keras_finetune.data.question_answers import AnswerSpan, answer_spans
from keras_finetune.tasks.answer_targets import target_columns
from keras_finetune.tasks.answer_windows import Layout, Windows, make_windows
from keras_finetune.tasks.encoding import encoded_store


@dataclass(frozen=True)
class QuestionReader:
    """What a question-answering task reads rows with.

    Attributes:
        tokenizer: What makes the token ids.
        layout: How a row of the model is put together.
        max_length: int, tokens of a window.
        stride: int, tokens that neighbouring windows share.
        columns: Names of the columns of questions, of contexts and of answers.
        unanswerable: Whether a text may hold no answer.
    """

    tokenizer: Tokenizer
    layout: Layout
    max_length: int
    stride: int
    columns: tuple[str, str, str]
    unanswerable: bool

    @property
    def pad_id(self) -> int:
        """What fills up shorter windows."""
        return self.tokenizer.pad_id or 0

    def windows(
        self, questions: Sequence[str], contexts: Sequence[str], first_row: int = 0
    ) -> Windows:
        """Encode questions with their contexts.

        Args:
            questions: The questions.
            contexts: The text of each.
            first_row: Number of the first question in its source, for error messages.
        """
        return make_windows(
            questions,
            contexts,
            self.tokenizer,
            self.layout,
            max_length=self.max_length,
            stride=self.stride,
            first_row=first_row,
        )

    def answers(self, chunk: dict[str, list[Any]], first_row: int = 0) -> list[list[AnswerSpan]]:
        """Find where the answers of some rows stand.

        Args:
            chunk: Columns of rows.
            first_row: Number of the first of them in its source.

        Raises:
            ValueError: An answer is not where it should be, or a row has none though it must.
        """
        _, context, answers = self.columns
        found = [
            answer_spans(given, text, f"Row {row}")
            for row, (given, text) in enumerate(
                zip(chunk[answers], chunk[context], strict=True), first_row
            )
        ]
        for row, spans in enumerate(found, first_row):
            if not spans and not self.unanswerable:
                raise ValueError(
                    f"Row {row} has no answer. Make the task with QuestionAnswering(..., "
                    "unanswerable=True) if a text may hold none; else drop the row."
                )
        return found

    def store(self, examples: Examples) -> Store:
        """Encode examples with their answers, once.

        Args:
            examples: Rows with the three columns.
        """
        examples.check_columns(self.columns)
        options = {
            "kind": "question_answering",
            "max_length": self.max_length,
            "stride": self.stride,
            "columns": self.columns,
            "unanswerable": self.unanswerable,
            "null_first": self.layout.null_first,
        }

        def encode(chunk: dict[str, list[Any]], first_row: int) -> dict[str, Any]:
            question, context, _ = self.columns
            windows = self.windows(chunk[question], chunk[context], first_row)
            return target_columns(windows, self.answers(chunk, first_row), first_row)

        return encoded_store(examples, self.tokenizer, options, encode)
