"""Parameters and exceptions in a docstring, and where what is said of them stands."""

import re
from collections.abc import Iterator
from typing import NamedTuple

MAX_CONTEXT_CHARS = 1_500
MIN_ANSWER_WORDS, MAX_ANSWER_CHARS = 3, 250

_KINDS = {
    **dict.fromkeys(("args", "arguments", "parameters", "other parameters"), "parameter"),
    "raises": "exception",
}
_UNDERLINE = re.compile(r"[-=~]{3,}")
_GOOGLE_HEADING = re.compile(r"([A-Z][\w ]{2,20}):")
_GOOGLE_ENTRY = re.compile(
    r"(\*{0,2}`?(?P<name>[A-Za-z_][\w.]*)`?(?: \([^)]*\))?): +(?P<said>\S.*)"
)
_NUMPY_ENTRY = re.compile(r"\*{0,2}(?P<name>[A-Za-z_]\w*)(?: *:.*)?")
# A sentence ends at a full stop, but for that of "e.g." and its like.
_SENTENCE = re.compile(r".*?(?<!\be\.g)(?<!\bi\.e)(?<!\betc)(?<!\bvs)\.(?=\s|$)")


class Described(NamedTuple):
    """A parameter or an exception, and the sentence that describes it.

    Attributes:
        kind: ``"parameter"`` or ``"exception"``.
        name: Its name.
        context: The docstring, or of a long one what is around the sentence.
        start: The sentence's first character in the context.
        end: The character after its last.
    """

    kind: str
    name: str
    context: str
    start: int
    end: int


class _Block(NamedTuple):
    """Some lines of a document, perhaps with a description that starts at a character."""

    text: str
    kind: str = ""
    name: str = ""
    start: int = 0
    end: int = 0


def described_names(docstring: str) -> Iterator[Described]:
    r"""Find what a docstring says of each parameter and each exception.

    It reads the two usual forms: Google's, ``Args:`` and ``name: ...``, and NumPy's, ``Parameters``
    underlined and ``name : type``. In the context the lines of a paragraph are joined; examples of
    code are left out.

    Args:
        docstring: Without the indentation of the code.

    Yields:
        What was found, in order; not those whose description is shorter than three words or longer
        than 250 characters.

    Example:
        >>> text = "Sum it.\n\nArgs:\n  axis: The axis to sum\n    along. All by default.\n"
        >>> found = next(described_names(text))
        >>> found.name, found.context[found.start : found.end]
        ('axis', 'The axis to sum along.')
    """
    blocks = list(_blocks(docstring.expandtabs().splitlines()))
    for number, block in enumerate(blocks):
        if block.kind:
            first, last = _around(blocks, number)
            before = "".join(other.text + "\n" for other in blocks[first:number])
            context = before + "\n".join(other.text for other in blocks[number:last])
            start, end = len(before) + block.start, len(before) + block.end
            if len(context) <= MAX_CONTEXT_CHARS:
                yield Described(block.kind, block.name, context, start, end)


def _around(blocks: list[_Block], number: int) -> tuple[int, int]:
    """Take neighbours in turn, before and after, as long as they fit."""
    first, last = number, number + 1
    room = MAX_CONTEXT_CHARS - len(blocks[number].text)
    grows = True
    while grows:
        grows = False
        if first > 0 and len(blocks[first - 1].text) < room:
            first -= 1
            room -= len(blocks[first].text) + 1
            grows = True
        if last < len(blocks) and len(blocks[last].text) < room:
            room -= len(blocks[last].text) + 1
            last += 1
            grows = True
    return first, last


def _blocks(lines: list[str]) -> Iterator[_Block]:
    paragraph: list[str] = []
    kind, style, indent, inner = "", "", 0, -1
    at = 0
    while at < len(lines):
        line = lines[at].strip()
        depth = len(lines[at]) - len(lines[at].lstrip())
        under = lines[at + 1].strip() if at + 1 < len(lines) else ""
        numpy_heading = bool(line and _UNDERLINE.fullmatch(under))
        google_heading = _GOOGLE_HEADING.fullmatch(line)
        code = line.startswith((">>>", "```"))
        ended = style == "google" and depth <= indent and bool(line)
        if ended:
            kind = style = ""
        entry = None
        if kind and style == "google" and line:
            inner = depth if inner < 0 else inner
            entry = _GOOGLE_ENTRY.fullmatch(line) if depth == inner else None
        elif kind and style == "numpy" and depth == indent and not numpy_heading:
            entry = _NUMPY_ENTRY.fullmatch(line)
        if paragraph and (not line or code or numpy_heading or google_heading or entry):
            yield _Block(" ".join(paragraph))
            paragraph = []
        if code:
            at = _after_code(lines, at)
        elif numpy_heading:
            yield _Block(line)
            kind, style, indent = _KINDS.get(line.lower(), ""), "numpy", depth
            at += 2
        elif google_heading and not entry:
            yield _Block(line)
            kind, style = _KINDS.get(google_heading[1].lower(), ""), "google"
            indent, inner = depth, -1
            at += 1
        elif entry:
            at, block = _entry(lines, at, depth, style, kind, entry)
            yield block
        else:
            if line:
                paragraph.append(line)
            at += 1
    if paragraph:
        yield _Block(" ".join(paragraph))


def _entry(
    lines: list[str], at: int, depth: int, style: str, kind: str, entry: "re.Match[str]"
) -> tuple[int, _Block]:
    after = at + 1
    while after < len(lines) and lines[after].strip():
        if len(lines[after]) - len(lines[after].lstrip()) <= depth:
            break
        after += 1
    more = [line.strip() for line in lines[at + 1 : after]]
    if style == "google":
        head, said = f"{entry[1]}: ", " ".join([entry["said"], *more])
    else:
        head, said = " ".join(entry[0].split()) + "\n", " ".join(more)
    said = " ".join(said.split())
    sentence = _SENTENCE.match(said)
    answer = (sentence[0] if sentence else said).rstrip()
    good = (
        len(answer.split()) >= MIN_ANSWER_WORDS
        and len(answer) <= MAX_ANSWER_CHARS
        and not any(mark in answer for mark in (">>>", "```", "---"))
    )
    if not good:
        return after, _Block((head + said).strip())
    start = len(head)
    return after, _Block(head + said, kind, entry["name"], start, start + len(answer))


def _after_code(lines: list[str], at: int) -> int:
    """Skip a fenced block, or an example up to the next blank line."""
    fenced = lines[at].strip().startswith("```")
    at += 1
    while at < len(lines):
        line = lines[at].strip()
        if fenced and line.startswith("```"):
            return at + 1
        if not fenced and not line:
            return at
        at += 1
    return at
