"""Chat as data and as tokens: who said what, the token ids that a model reads, and which of them it learns to say.

The format is ChatML's: BOS once, then for each message

    <|im_start|> role "\\n" content <|im_end|> "\\n"

where the assistant's content may hold tool calls, <|tool_start|> text <|tool_end|>, and what they returned,
<|output_start|> text <|output_end|>. The specials are ids that no text encodes to, and every header and every segment
is encoded on its own. So `parse` undoes `render` for any text that UTF-8 can spell, and a user who types "<|im_end|>"
has merely typed ten characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from vnc.errors import UserError

if TYPE_CHECKING:
    from vnc.tokenizer import Tokenizer

Kind = Literal["text", "tool", "output"]
Role = Literal["system", "user", "assistant"]

KINDS: tuple[Kind, ...] = get_args(Kind)
ROLES: tuple[Role, ...] = get_args(Role)


# What a reader sees between stretches of text, of calculator calls and of their results: 12 * 7 is [12*7=84].
BRACKETS: dict[tuple[Kind, Kind], str] = {
    ("text", "tool"): "[",
    ("text", "output"): "[=",
    ("tool", "output"): "=",
    ("tool", "text"): "]",
    ("output", "text"): "]",
    ("output", "tool"): "][",
}


@dataclass(frozen=True)
class Segment:
    """A stretch of one message: prose, a call to a tool, or the output that the tool gave back."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Message:
    """One turn. Only the assistant's turns hold segments other than text."""

    role: Role
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Conversation:
    """An optional system message, then user and assistant by turns."""

    messages: tuple[Message, ...]

    @classmethod
    def from_dicts(cls, messages: Iterable[Mapping[str, Any]]) -> Conversation:
        """Reads the usual JSON form, `[{"role": ..., "content": ...}]`; content is a string or a list of
        `{"type": "text" | "tool" | "output", "text": ...}`. Keys other than these are ignored.

        Neighbouring text parts are joined and empty ones dropped. Raises UserError, naming the message by its index
        (from 0), for anything that is not such a conversation.
        """
        return cls(_checked_messages(messages))

    def to_dicts(self) -> list[dict[str, Any]]:
        """The inverse of `from_dicts`: content is a string where the message is plain text, else a list of parts."""
        return [{"role": message.role, "content": _content(message)} for message in self.messages]


def render(conversation: Conversation, tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
    """Token ids of the conversation, and for each id whether the model learns to say it.

    Learnt is what the assistant itself emits in its turn: its text, its tool calls with their delimiters, and the
    <|im_end|> that ends the turn; not tool output, which the tool writes, nor headers, which the format dictates.
    """
    ids, learn = [tokenizer.bos_id], [False]

    def add(piece: list[int], learnt: bool) -> None:
        ids.extend(piece)
        learn.extend([learnt] * len(piece))

    for message in conversation.messages:
        add(_header(message.role, tokenizer), False)
        assistant = message.role == "assistant"
        for segment in message.segments:
            piece = tokenizer.encode(segment.text)
            if segment.kind != "text":
                piece = [
                    tokenizer.special(f"<|{segment.kind}_start|>"),
                    *piece,
                    tokenizer.special(f"<|{segment.kind}_end|>"),
                ]
            add(piece, assistant and segment.kind != "output")
        add([tokenizer.special("<|im_end|>")], assistant)
        add(tokenizer.encode("\n"), False)
    return ids, learn


def render_prompt(conversation: Conversation, tokenizer: Tokenizer) -> list[int]:
    """Token ids up to and including the header of the assistant's next turn: the model's continuation is its answer.

    Raises UserError unless the user spoke last.
    """
    last = conversation.messages[-1].role if conversation.messages else "nobody"
    if last != "user":
        raise UserError(f"conversation: the last message is from {last}; the model can only answer the user")
    return render(conversation, tokenizer)[0] + _header("assistant", tokenizer)


def parse(ids: Sequence[int], tokenizer: Tokenizer) -> Conversation:
    """The conversation that `render` turned into `ids`.

    The last message may be cut off anywhere, as when generation stops early: what is there of it is kept (a character
    cut in two reads U+FFFD), unless not even its role is whole. Raises UserError, naming the position, for ids that
    no prefix of a rendered conversation can hold.
    """
    pieces = _Pieces(ids, tokenizer)
    pieces.expect("<|bos|>")
    messages = []
    while not pieces.at_end:
        pieces.expect("<|im_start|>")
        header, newline, text = pieces.text().partition("\n")
        roles = [role for role in ROLES if role == header or (not newline and role.startswith(header))]
        if roles and not newline and pieces.at_end:
            break
        if not roles or not newline:
            raise pieces.unexpected(f"a role ({', '.join(ROLES)}) and a new line, not {header!r:.40}, before")
        segments = [Segment("text", text)] if text else []
        while not pieces.at_end and not pieces.take("<|im_end|>"):
            segments.append(_parse_segment(pieces))
        messages.append(Message(roles[0], tuple(segments)))
        if not pieces.at_end and pieces.text() != "\n":
            raise pieces.unexpected("one new line after <|im_end|>")
    return Conversation(tuple(messages))


def _header(role: Role, tokenizer: Tokenizer) -> list[int]:
    return [tokenizer.special("<|im_start|>"), *tokenizer.encode(f"{role}\n")]


def _parse_segment(pieces: _Pieces) -> Segment:
    for kind in KINDS[1:]:
        if pieces.take(f"<|{kind}_start|>"):
            segment = Segment(kind, pieces.text())
            if not pieces.at_end:
                pieces.expect(f"<|{kind}_end|>")
            return segment
    text = pieces.text()
    if not text:
        raise pieces.unexpected("text, <|tool_start|>, <|output_start|> or <|im_end|>")
    return Segment("text", text)


class _Pieces:
    """A cursor over token ids that reads them as specials and the runs of text between them."""

    def __init__(self, ids: Sequence[int], tokenizer: Tokenizer) -> None:
        self._ids = ids
        self._tokenizer = tokenizer
        self._special_ids = tokenizer.special_ids
        self._position = 0

    @property
    def at_end(self) -> bool:
        return self._position == len(self._ids)

    def take(self, special: str) -> bool:
        """Steps over `special` if it comes next, and says whether it did."""
        found = not self.at_end and bool(self._ids[self._position] == self._tokenizer.special(special))
        self._position += found
        return found

    def expect(self, special: str) -> None:
        if not self.take(special):
            raise self.unexpected(special)

    def text(self) -> str:
        """Steps over the ids up to the next special (perhaps none) and returns their text."""
        start = self._position
        while not self.at_end and self._ids[self._position] not in self._special_ids:
            self._position += 1
        return self._tokenizer.decode(self._ids[start : self._position])

    def unexpected(self, expected: str) -> UserError:
        found = "the end" if self.at_end else repr(self._tokenizer.decode([self._ids[self._position]]))
        return UserError(
            f"token ids are no rendered conversation: expected {expected}, found {found} at position {self._position}"
        )


def _checked_messages(messages: Iterable[Mapping[str, Any]]) -> tuple[Message, ...]:
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Iterable):
        raise UserError(f"conversation: expected a list of messages, found {type(messages).__name__}")
    checked: list[Message] = []
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise UserError(f"message {index}: expected an object with role and content, found {message!r:.60}")
        for key in ("role", "content"):
            if key not in message:
                raise UserError(f"message {index}: no {key!r}, only {sorted(map(str, message))}")
        role = _checked_role(message["role"], index, [earlier.role for earlier in checked])
        checked.append(Message(role, _checked_segments(message["content"], role, index)))
    if not checked:
        raise UserError("conversation: no messages; a conversation needs at least one")
    return tuple(checked)


def _checked_role(role: Any, index: int, earlier: list[Role]) -> Role:
    if role not in ROLES:
        raise UserError(f"message {index}: unknown role {role!r}; use one of {', '.join(ROLES)}")
    if role == "system":
        if index > 0:
            raise UserError(f"message {index}: a system message can only come first (index 0)")
        return "system"
    expected: Role = "user" if not earlier or earlier[-1] != "user" else "assistant"
    if role != expected:
        raise UserError(f"message {index}: role {role!r} where {expected!r} is due; user and assistant take turns")
    return expected


def _checked_segments(content: Any, role: Role, index: int) -> tuple[Segment, ...]:
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list | tuple):
        raise UserError(f"message {index}: content is {type(content).__name__}; use a string or a list of parts")
    segments: list[Segment] = []
    for number, part in enumerate(parts):
        where = f"message {index}, part {number}"
        if not isinstance(part, Mapping) or "type" not in part or "text" not in part:
            raise UserError(f'{where}: expected {{"type": ..., "text": ...}}, found {part!r:.60}')
        kind, text = part["type"], part["text"]
        if kind not in KINDS:
            raise UserError(f"{where}: unknown type {kind!r}; use one of {', '.join(KINDS)}")
        if not isinstance(text, str):
            raise UserError(f"{where}: text is {type(text).__name__}, not a string")
        if kind != "text" and role != "assistant":
            raise UserError(f"{where}: a {role} message holds text only, found {kind!r}")
        if kind == "output" and (not segments or segments[-1].kind != "tool"):
            raise UserError(f"{where}: output that does not follow a tool call")
        if kind == "text" and segments and segments[-1].kind == "text":
            segments[-1] = Segment("text", segments[-1].text + text)
        elif kind != "text" or text:
            segments.append(Segment(kind, text))
    if not segments:
        raise UserError(f"message {index}: the {role} message is empty")
    return tuple(segments)


def _content(message: Message) -> str | list[dict[str, str]]:
    if all(segment.kind == "text" for segment in message.segments):
        return "".join(segment.text for segment in message.segments)
    return [{"type": segment.kind, "text": segment.text} for segment in message.segments]
