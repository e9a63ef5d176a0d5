"""The text of a mail."""

import email.message
import email.policy
import html.parser


def mail_text(data: bytes) -> str:
    r"""Return a mail's subject and body as text.

    The body is the plain-text part where there is one, else the HTML part without its tags.
    Attachments and the other headers are left out. Mail that breaks the standards (an unknown
    charset, a malformed header) is read as far as it goes and never refused.

    Args:
        data: The mail as it is in an ``.eml`` file (RFC 5322).

    Returns:
        The subject, an empty line, the body.

    Example:
        >>> mail_text(b"Subject: Lunch?\n\nAt noon.\n")
        'Lunch?\n\nAt noon.'
    """
    message = email.message_from_bytes(data, policy=email.policy.default)
    return f"{_subject(message)}\n\n{_body(message)}".strip()


def _subject(message: email.message.EmailMessage) -> str:
    try:
        return " ".join(str(message["subject"] or "").split())
    except (LookupError, ValueError, TypeError, AttributeError):
        # The header parser fails on some malformed headers; the raw value is better than none.
        raw = [value for name, value in message.raw_items() if name.lower() == "subject"]
        return " ".join(str(raw[0]).split())


def _body(message: email.message.EmailMessage) -> str:
    part = message.get_body(preferencelist=("plain", "html"))
    if part is None:
        return ""
    try:
        content = part.get_content()
    except (LookupError, ValueError):
        payload = part.get_payload(decode=True)
        content = payload.decode("latin-1") if isinstance(payload, bytes) else str(payload)
    return _without_tags(content) if part.get_content_subtype() == "html" else str(content).strip()


def _without_tags(content: str) -> str:
    parser = _Text()
    parser.feed(content)
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.pieces).splitlines())
    return "\n".join(line for line in lines if line)


class _Text(html.parser.HTMLParser):
    """Collects the text of a page; ``style`` and ``script`` are no text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._hidden = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in ("style", "script")
        if tag in ("br", "p", "div", "tr", "li", "h1", "h2", "h3", "table"):
            self.pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.pieces.append(data)
