"""Conversations as the text that a chat model was trained to read."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]


def render_chat(
    template: str,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = False,
    special_tokens: Mapping[str, str] | None = None,
) -> str:
    """Write a conversation with a chat template, as Hugging Face's tokenizers hold them.

    The template is a program that came with a model, so that it runs in Jinja's sandbox.

    Args:
        template: In Jinja's language; a tokenizer's `chat_template`.
        messages: Each with a `"role"` and a `"content"`.
        add_generation_prompt: Whether to end with what comes before an answer.
        special_tokens: Texts that templates ask for: `bos_token`, `eos_token`, ...

    Returns:
        The text.

    Raises:
        ValueError: The template refuses the conversation, or is none.
        ImportError: `jinja2` is not installed.

    Example:
        >>> template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }} {% endfor %}"
        >>> render_chat(template, [{"role": "user", "content": "Hello"}])
        'user: Hello '
    """
    jinja2 = _jinja()
    try:
        written: str = _compiled(template).render(
            messages=[dict(message) for message in messages],
            add_generation_prompt=add_generation_prompt,
            **(special_tokens or {}),
        )
    except jinja2.TemplateError as error:
        roles = [message.get("role") for message in messages]
        raise ValueError(
            f"The chat template does not take a conversation with the roles {roles}: {error}"
        ) from None
    return written


@functools.lru_cache(maxsize=16)
def _compiled(template: str) -> Any:
    _jinja()
    import jinja2.sandbox

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = refuse
    return environment.from_string(template)


def _jinja() -> Any:
    try:
        import jinja2
    except ImportError:
        raise ImportError(
            'Chat templates are written in Jinja: pip install "keras_finetune[chat]"'
        ) from None
    return jinja2
