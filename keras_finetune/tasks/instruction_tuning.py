"""Instruction tuning: teach a causal language model to answer, by conversations."""

import copy
import math
import sys
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_finetune.data import Examples, Store, Tokenizer, make_dataset, read
from keras_finetune.data.int_checks import checked_int
from keras_finetune.generation.generating import generate
from keras_finetune.tasks.conversations import ConversationEncoder
from keras_finetune.tasks.encoding import encoded_store
from keras_finetune.tasks.fitting import (
    check_backbone,
    check_tokenizer,
    hand_on,
    next_token_model,
    tokenizer_for,
)
from keras_finetune.tasks.language_modeling import compile_for_tokens


class InstructionTuning:
    """Learn the answers in conversations.

    A conversation is a list of messages, `{"role": "user", "content": "..."}`; its text is written
    with the tokenizer's chat template. The model reads all of it and learns the assistant's
    messages alone, each up to the token that ends it
    ([Ouyang et al., 2022](https://arxiv.org/abs/2203.02155), the first of three steps).

    Args:
        tokenizer: What turns text into token ids. Default: the pretrained model's own, once the
            task has been built on one.
        max_length: int, tokens after which a conversation is cut off.
        messages: Name of the column of conversations.
        chat_template: In Jinja's language. Default: the tokenizer's.

    Example:
        >>> import keras_finetune as kft
        >>> messages = [{"role": "user", "content": "Is it so?"},
        ...             {"role": "assistant", "content": "It is."}]
        >>> template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}[SEP]"
        >>> template += "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
        >>> tokenizer = kft.data.Tokenizer.train(["user: Is it so?", "assistant: It is."],
        ...                                      vocab_size=300, progress=False)
        >>> task = InstructionTuning(tokenizer, max_length=64, chat_template=template)
        >>> backbone = kft.models.transformer_decoder(
        ...     tokenizer.vocab_size, num_layers=1, num_heads=2, hidden_dim=16, max_length=64)
        >>> tuner = kft.FineTuner(task.build(backbone))
        >>> data = task.dataset({"messages": [messages] * 8})
        >>> history = tuner.fit(data, epochs=1, verbose=0)
        >>> len(task.predict(tuner.model, ["Is it so?"], max_new_tokens=4))
        1
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None = None,
        *,
        max_length: int = 512,
        messages: str = "messages",
        chat_template: str | None = None,
    ) -> None:
        check_tokenizer(tokenizer)
        self.tokenizer = None if tokenizer is None else _with_template(tokenizer, chat_template)
        self.max_length = checked_int("max_length", max_length, 2)
        self.messages = messages
        self.chat_template = chat_template

    def build(
        self, backbone: keras.Model, *, learning_rate: float = 1e-4, **head_args: Any
    ) -> keras.Model:
        """Compile a causal language model with the loss of its answers.

        Args:
            backbone: A language model, from `load_pretrained(path, head=True)` as a rule; or a
                causal backbone, which gets a head.
            learning_rate: float, AdamW's, until `FineTuner.compile` says otherwise.
            **head_args: Further arguments of `keras_finetune.models.language_model`.

        Returns:
            A Keras model that gives logits, (batch, length, vocab_size).

        Raises:
            ValueError: The model is not causal or has an encoder, or does not fit the tokenizer.
        """
        if isinstance(backbone.input, dict) and "decoder_token_ids" in backbone.input:
            raise ValueError(
                f"Conversations are for decoder-only models; {backbone.name!r} has an encoder. Use "
                "transformer_decoder, or a GPT-type checkpoint."
            )
        tokenizer = tokenizer_for(backbone, self.tokenizer)
        check_backbone(backbone, tokenizer, self.max_length)
        self.tokenizer = tokenizer = _with_template(tokenizer, self.chat_template)
        self._encoder()
        model = next_token_model(backbone, head_args)
        hand_on(model, backbone, tokenizer)
        self.compile(model, learning_rate=learning_rate)
        return model

    def compile(self, model: keras.Model, *, learning_rate: float = 1e-4) -> None:
        """Compile a model with this task's loss and metrics, as `build` does.

        Args:
            model: Gives logits, (batch, length, vocab_size).
            learning_rate: float, AdamW's, until `FineTuner.compile` says otherwise.
        """
        compile_for_tokens(model, learning_rate)

    def dataset(
        self,
        examples: Any,
        *,
        batch_size: int = 8,
        shuffle: bool = True,
        seed: int = 0,
        tokens_per_batch: int | None = None,
    ) -> Any:
        """Encode conversations, once, and return them as a `tf.data` pipeline.

        A conversation whose first `max_length` tokens hold no answer is left out; how many were is
        said on standard error.

        Args:
            examples: `Examples`, or whatever `keras_finetune.data.read` takes.
            batch_size: int, conversations in a batch.
            shuffle: Whether every epoch has an order of its own; a function of seed and epoch.
            seed: int.
            tokens_per_batch: int, tokens in a batch, padding included, in place of `batch_size`.

        Returns:
            A `tf.data.Dataset` of `({"token_ids", "padding_mask"}, next token ids, weights)`, each
            (batch, length); weights are 1 for the tokens of answers, else 0.

        Raises:
            ValueError: A conversation is empty or malformed, has no answer, or the template does
                not take it; names the row.
        """
        examples = read(examples)
        store = self._store(examples)
        left_out = len(examples) - store.num_rows
        if left_out:
            print(
                f"Conversations: {left_out} of {len(examples)} have no answer in their first "
                f"{self.max_length} tokens, and are left out.",
                file=sys.stderr,
            )
        tokenizer = self._encoder().tokenizer
        pad_id = tokenizer.pad_id or 0

        def features(batch: dict[str, np.ndarray], rng: np.random.Generator) -> tuple[Any, ...]:
            x = {name: batch[name] for name in ("token_ids", "padding_mask")}
            return x, batch["next_ids"], batch["answer"].astype(np.float32)

        return make_dataset(
            store,
            features,
            pad_values={"token_ids": pad_id, "next_ids": pad_id},
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            tokens_per_batch=tokens_per_batch,
            max_length=self.max_length,
        )

    def predict(
        self, model: keras.Model, conversations: Sequence[Any], **generation: Any
    ) -> list[str]:
        """Answer.

        Args:
            model: From `build`.
            conversations: Questions, or lists of messages that end with the user's or a tool's.
            **generation: Further arguments of `keras_finetune.generation.generate`.

        Returns:
            The answer to each.
        """
        if isinstance(conversations, str):
            raise ValueError("predict takes a list. Received one text: put it in [...].")
        encoder = self._encoder()
        prompts = [encoder.prompt(each, row) for row, each in enumerate(conversations)]
        options = {"end_id": encoder.end_id, **generation}
        new = generate(model, prompts, **options)
        return [encoder.tokenizer.decode(ids).strip() for ids in new]

    def prompt(self, conversation: Any) -> str:
        """Write what a model reads before its answer, as for `generation.stream`.

        Args:
            conversation: A question, or messages that end with the user's or a tool's.

        Returns:
            The text.
        """
        return self._encoder().prompt_text(conversation, 0)

    def evaluate(
        self, model: keras.Model, examples: Any, *, batch_size: int = 8
    ) -> dict[str, float]:
        """Return loss (nats a token), accuracy and perplexity of held-out answers.

        Args:
            model: From `build`.
            examples: Conversations, as for `dataset`.
            batch_size: int, conversations computed at a time.
        """
        dataset = self.dataset(examples, batch_size=batch_size, shuffle=False)
        found = model.evaluate(dataset, return_dict=True, verbose=0)
        return {**found, "perplexity": math.exp(found["loss"])}

    def get_config(self) -> dict[str, Any]:
        """Return what the task was made with, but for the tokenizer."""
        # A tokenizer.json has no place for the tokenizer's own template.
        own = None if self.tokenizer is None else self.tokenizer.chat_template
        return {
            "max_length": self.max_length,
            "messages": self.messages,
            "chat_template": self.chat_template or own,
        }

    def _encoder(self) -> ConversationEncoder:
        if self.tokenizer is None:
            raise ValueError(
                "The task has no tokenizer yet. Give it one, or first build it on a model from "
                "load_pretrained."
            )
        return ConversationEncoder(self.tokenizer, self.chat_template, self.max_length)

    def _store(self, examples: Examples) -> Store:
        examples.check_columns([self.messages])
        encoder = self._encoder()
        options = {
            "kind": "instruction_tuning",
            "column": self.messages,
            "max_length": self.max_length,
            "chat_template": encoder.template,
        }

        def encode(chunk: dict[str, list[Any]], first_row: int) -> dict[str, Any]:
            return encoder.columns(chunk[self.messages], first_row)

        store = encoded_store(examples, encoder.tokenizer, options, encode)
        if store.num_rows == 0:
            raise ValueError(
                f"No conversation has an answer in its first max_length={self.max_length} tokens. "
                "Raise max_length."
            )
        return store


def _with_template(tokenizer: Tokenizer, template: str | None) -> Tokenizer:
    """The tokenizer that goes with a model tuned on a template, where what reads both looks."""
    if template in (None, tokenizer.chat_template):
        return tokenizer
    found = copy.copy(tokenizer)
    found.chat_template = template
    return found
