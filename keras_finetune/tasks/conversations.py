"""Conversations to token ids, and which of these are answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_finetune.data import Ragged, Tokenizer
from keras_finetune.data.chat_template import render_chat
from keras_finetune.suggest import did_you_mean
from keras_finetune.tasks.encoding import ragged

Messages = list[dict[str, Any]]

_ROLES = ("system", "user", "assistant", "tool")
_ANSWERED = ("user", "tool")
_QUESTION, _ANSWER = "1736402958", "8461957203"  # Digits, which no template writes in upper case.


class ConversationEncoder:
    """Encode conversations with a chat template.

    Args:
        tokenizer: What turns text into token ids.
        template: In Jinja's language; None for the tokenizer's own.
        max_length: int, tokens after which a conversation is cut off.

    Attributes:
        end_id: The token that ends an answer.

    Raises:
        ValueError: There is no template, or none to learn answers with; or no token that ends one.
    """

    def __init__(self, tokenizer: Tokenizer, template: str | None, max_length: int) -> None:
        found = template or tokenizer.chat_template
        if found is None:
            raise ValueError(
                "The tokenizer has no chat template. Give the task chat_template, in Jinja's "
                "language, or use a model that was tuned for conversations."
            )
        ends = (tokenizer.eos_id, tokenizer.sep_id)
        end_id = next((number for number in ends if number is not None), None)
        if end_id is None:
            raise ValueError(
                "The tokenizer has no token that ends an answer, so that a model could not stop. "
                "It needs one of [EOS], </s>, <|endoftext|>, [SEP]."
            )
        self.tokenizer, self.template, self.max_length = tokenizer, found, max_length
        self.end_id = end_id
        self._special = {f"{role}_token": text for role, text in tokenizer.special_tokens.items()}
        self._check_template()

    def written(self, messages: Messages, before_answer: bool) -> str:
        """Write a conversation as text; `before_answer`: up to where an answer begins."""
        return render_chat(
            self.template,
            messages,
            add_generation_prompt=before_answer,
            special_tokens=self._special,
        )

    def prompt(self, conversation: Any, row: int) -> np.ndarray:
        """Encode what a model reads before its answer.

        Args:
            conversation: A question, or messages that end with the user's or a tool's.
            row: Its number, for errors.
        """
        return self._ids([self.prompt_text(conversation, row)])[0]

    def prompt_text(self, conversation: Any, row: int) -> str:
        """Write what a model reads before its answer; arguments as for `prompt`.

        Raises:
            ValueError: It is not a conversation, or its last message is not to be answered.
        """
        messages = as_messages(conversation, row)
        role = messages[-1]["role"]
        if role not in _ANSWERED:
            raise ValueError(
                f"Row {row}: the last message has the role {role!r}, but an answer follows a "
                f"message of the role 'user' (or 'tool').{did_you_mean(role, _ANSWERED)} Leave out "
                "the answer that the model is to write."
            )
        return self.written(messages, True)

    def columns(self, conversations: Sequence[Any], first_row: int) -> dict[str, Ragged]:
        """Encode conversations as columns of a store; those without an answer's token left out.

        Args:
            conversations: Lists of messages.
            first_row: Number of the first one, for errors.

        Returns:
            `token_ids`, the `next_ids` after them, and `answer`, 1 where these are to be learned.

        Raises:
            ValueError: A row is no conversation with an answer, or the template does not end one.
        """
        rows: dict[str, list[np.ndarray]] = {"token_ids": [], "next_ids": [], "answer": []}
        for row, conversation in enumerate(conversations, first_row):
            if isinstance(conversation, str):  # To be answered, not to be learned from.
                raise _not_a_conversation(conversation, row)
            parts = self._parts(as_messages(conversation, row), row)
            ids = self._ids([text for text, _ in parts])
            learned = [
                self._until_end(part, text, row) if is_answer else np.zeros(len(part), np.int32)
                for part, (text, is_answer) in zip(ids, parts, strict=True)
            ]
            joined = np.concatenate(ids)[: self.max_length + 1]
            answer = np.concatenate(learned)[1 : self.max_length + 1]
            if answer.any():
                rows["token_ids"].append(joined[:-1])
                rows["next_ids"].append(joined[1:])
                rows["answer"].append(answer)
        return {name: ragged(values) for name, values in rows.items()}

    def _parts(self, messages: Messages, row: int) -> list[tuple[str, bool]]:
        """Pieces of the text, and whether each is an answer."""
        answers = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
        if not answers:
            roles = [message["role"] for message in messages]
            hints = [did_you_mean(role, ["assistant"]) for role in roles]
            raise ValueError(
                f"Row {row}: no message has the role 'assistant', so that there is nothing to "
                f"learn. Roles: {roles}.{max(hints)}"
            )
        parts: list[tuple[str, bool]] = []
        done = ""
        for number in answers:
            before = self.written(messages[:number], True)
            after = self.written(messages[: number + 1], False)
            if not before.startswith(done) or not after.startswith(before):
                raise ValueError(
                    f"Row {row}: the chat template writes message {number} differently once more "
                    "follow, so that it is not clear what the answer's tokens are. Give the task a "
                    "chat_template that writes each message by itself."
                )
            parts += [(before[len(done) :], False), (after[len(before) :], True)]
            done = after
        return parts

    def _check_template(self) -> None:
        question = [{"role": "user", "content": _QUESTION}]
        answer = [{"role": "assistant", "content": _ANSWER}]
        try:
            plain, before = self.written(question, False), self.written(question, True)
            after = self.written(question + answer, False)
        except (ValueError, TypeError):  # It asks for more, which the real ones may have.
            return
        if _ANSWER not in after:
            raise ValueError(
                "The chat template does not write what the assistant says, so that there is "
                "nothing to learn. Write each message's content in it: {{ message['content'] }}. "
                f"Received: {self.template!r:.200}"
            )
        header = after.removeprefix(before).partition(_ANSWER)[0]
        if plain == before and after.startswith(before) and header.strip():
            prompt = "{% if add_generation_prompt %}{{ " + repr(header) + " }}{% endif %}"
            raise ValueError(
                f"The chat template writes {header!r:.80} before an answer, and "
                "add_generation_prompt has no effect, so that a model would learn to write that. "
                f"End the template with {prompt}"
            )

    def _until_end(self, ids: np.ndarray, text: str, row: int) -> np.ndarray:
        """1 up to the token that ends an answer: after it the template may write more."""
        ends = np.flatnonzero(ids == self.end_id)
        if not len(ends):
            end = self.tokenizer.id_to_token(self.end_id)
            raise ValueError(
                f"Row {row}: the chat template writes no {end!r} after an answer, the token that "
                "ends a text of this tokenizer, so that a model would learn to go on and on. Write "
                f"{end!r} after the assistant's content in the template, in place of any other "
                f"token that ends it. Received an answer that ends in {text[-40:]!r}"
            )
        return (np.arange(len(ids)) <= ends[0]).astype(np.int32)

    def _ids(self, texts: list[str]) -> list[np.ndarray]:
        # The template writes special tokens itself. Pieces are encoded one by one, since a model
        # that answers has its prompt encoded by itself too.
        encoded = self.tokenizer.encode_batch(texts, special_tokens=False)
        return np.split(encoded.token_ids, encoded.offsets[1:-1])


def as_messages(conversation: Any, row: int) -> Messages:
    """Bring a conversation into one form.

    Args:
        conversation: A question, messages, or TFDS's dict of lists of roles and contents.
        row: Its number, for errors.

    Raises:
        ValueError: It is empty, or not a conversation; or a role is written otherwise, "User".

    Example:
        >>> as_messages("Is it so?", 0)
        [{'role': 'user', 'content': 'Is it so?'}]
    """
    if isinstance(conversation, str):
        conversation = [{"role": "user", "content": conversation}]
    if isinstance(conversation, Mapping) and {"role", "content"} <= set(conversation):
        roles, contents = conversation["role"], conversation["content"]
        if isinstance(roles, str) or isinstance(contents, str):
            raise ValueError(
                f"Row {row}: one message stands where a conversation should, a list of messages. "
                "Put each conversation in a list of its own: [[{...}, ...], ...]. Received: "
                f"{conversation!r:.200}"
            )
        if len(roles) != len(contents):
            raise ValueError(
                f"Row {row}: the conversation has {len(roles)} roles and {len(contents)} contents. "
                "Give one of each for every message."
            )
        pairs = zip(roles, contents, strict=True)
        conversation = [{"role": role, "content": content} for role, content in pairs]
    known = isinstance(conversation, Sequence | np.ndarray) and len(conversation) > 0
    if not known or not all(_is_message(message) for message in conversation):
        raise _not_a_conversation(conversation, row)
    for message in conversation:
        _check_role(message["role"], row)
    return [dict(message) for message in conversation]


def _check_role(role: str, row: int) -> None:
    meant = role.strip().lower()
    if meant in _ROLES and role != meant:
        raise ValueError(
            f"Row {row}: a message has the role {role!r}, which is not the role {meant!r}. Write "
            f"{meant!r}."
        )


def _not_a_conversation(received: Any, row: int) -> ValueError:
    return ValueError(
        f'Row {row}: a conversation is a list of messages, [{{"role": "user", "content": "..."'
        f'}}, {{"role": "assistant", "content": "..."}}]. Received: {received!r:.200}'
    )


def _is_message(message: Any) -> bool:
    return isinstance(message, Mapping) and all(
        isinstance(message.get(name), str) for name in ("role", "content")
    )
