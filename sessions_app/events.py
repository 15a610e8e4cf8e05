"""What a page sends to the relay, checked before anything is done with it.

Durable frames become lines of the log; interim captions and pings do not. What the agent's messages hold is
the platform's affair: only what this site itself relies on is required here, so that the events and keys of a
newer platform are kept as they come.
"""

import json
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn, Self

MAX_BYTES = 64 * 1024
MAX_INT = 2**31 - 1  # the most that a PositiveIntegerField holds in every database
MAX_DEPTH = 32  # SQLite refuses JSON that is nested deeper than 1000; no event comes near this
MAX_ID = 255

REQUIRED: dict[str, dict[str, type]] = {
    "session_started": {"id": str},
    "response_text": {"text": str},
    "input_audio_transcript": {"transcript": str},
    "tool_call_output": {"toolCallId": str, "output": str},
    "microphone_muted": {"muted": bool},
    "call_failed": {"code": str},
}
"""What `data` of a type must hold; `tool_call` is read by ToolCall."""

TEXTS = ("response_text", "input_audio_transcript")
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""U+0000, which PostgreSQL does not keep, and halves of characters, which no encoding knows."""

TYPE = re.compile(r"[a-z][a-z_]{0,63}")

REFUSED = "rejected"
"""The type of the line that stands where a frame was refused. Only the server writes it."""


class EventError(ValueError):
    """A frame that cannot be taken. `seq` is None when it has no number: nothing can be logged then."""

    def __init__(self, code: str, message: str, seq: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.seq = seq
        self.type = ""
        self.at_ms: int | None = None

    def as_frame(self) -> "Frame":
        """The line that takes the refused frame's place, so that the numbers stay gapless."""
        if self.seq is None:
            raise ValueError("a frame without a number has no place in the log")
        data = {"code": self.code, "message": self.message, "type": self.type}
        return Frame(self.seq, self.at_ms, REFUSED, data)


@dataclass(frozen=True)
class Frame:
    """One line for the log. `at_ms` is None where a refused frame had none that could be read."""

    seq: int
    at_ms: int | None
    type: str
    data: dict[str, Any]
    sent_at: datetime | None = None

    @property
    def is_for_server(self) -> bool:
        """A tool call that the page does not answer itself."""
        return self.type == "tool_call" and self.data.get("runs_on") != "page"


@dataclass(frozen=True)
class Interim:
    """A caption that is still changing: for those who watch now, never stored."""

    at_ms: int
    type: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Ping:
    """The page is still there."""


@dataclass(frozen=True)
class ToolCall:
    id: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    is_redacted: bool = False
    """Of the arguments, only what may be stored is left (see redaction.py)."""

    @classmethod
    def read(cls, data: dict[str, Any]) -> Self:
        """From `data` of a `tool_call`, in either of the platform's spellings.

        Arguments come as descriptors; those without a value were left out by the agent. Raises EventError.
        """
        call_id = data.get("toolCallId", data.get("tool_call_id"))
        name = data.get("toolName", data.get("tool_name"))
        for key, value in (("toolCallId", call_id), ("toolName", name)):
            if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
                raise EventError(
                    "bad_data", f"{key} of a tool_call must be a text of 1 to {MAX_ID} characters"
                )
        descriptors = data.get("arguments") or []
        if not isinstance(descriptors, list) or not all(
            isinstance(item, dict) and isinstance(item.get("name"), str) for item in descriptors
        ):
            raise EventError("bad_data", "arguments of a tool_call must be a list of objects with a name")
        arguments = {item["name"]: item["value"] for item in descriptors if item.get("value") is not None}
        return cls(str(call_id), str(name), arguments)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Made once: json.loads makes one for each call that has such an option.
_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def decode(text: str) -> Any:
    """Strict JSON. Raises EventError."""
    try:
        return _decode(text)
    except (ValueError, RecursionError) as error:
        raise EventError("not_json", "the message is not JSON") from error


def parse(text: str) -> Frame | Interim | Ping:
    """One message of the socket. Raises EventError."""
    return read(decode(text), len(text.encode(errors="surrogatepass")))


def read(message: Any, size: int | None = None) -> Frame | Interim | Ping:
    """One decoded message, whose JSON has `size` bytes (None: to be counted). Raises EventError."""
    if (_size(message) if size is None else size) > MAX_BYTES:
        seq = message.get("seq") if isinstance(message, dict) else None
        raise EventError("too_large", f"the message is over {MAX_BYTES} bytes", seq if is_seq(seq) else None)
    if not isinstance(message, dict):
        raise EventError("not_an_object", "the message is not a JSON object")
    if "seq" in message:
        return _read_frame(message)
    if message.get("type") == "ping":
        return Ping()
    if message.get("type") in TEXTS and _data(message).get("is_final") is False:
        return Interim(_at_ms(message), message["type"], checked_data(message["type"], _data(message)))
    raise EventError("bad_seq", "only an interim text or a ping comes without seq")


def _size(message: Any) -> int:
    try:
        text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    except RecursionError as error:
        raise EventError("not_storable", "the message is nested too deeply") from error
    return len(text.encode(errors="surrogatepass"))


def is_seq(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_INT


def _read_frame(message: dict[str, Any]) -> Frame:
    seq = message["seq"]
    if not is_seq(seq):
        raise EventError("bad_seq", f"seq must be a whole number from 1 to {MAX_INT}")
    at_ms, kind = None, ""
    try:
        at_ms = _at_ms(message)
        kind = _type(message)
        data = checked_data(kind, _data(message))
        if kind in TEXTS and data.get("is_final") is False:
            raise EventError("not_final", "a text that is not final has no number and is not stored")
        runs_on = message.get("runs_on")
        if runs_on is not None:
            if kind != "tool_call" or runs_on != "page":
                raise EventError("bad_runs_on", 'runs_on can only be "page", and only on a tool_call')
            data = {**data, "runs_on": runs_on}
        return Frame(seq, at_ms, kind, data, _timestamp(message))
    except EventError as error:
        error.seq, error.at_ms, error.type = seq, at_ms, kind
        raise


def _at_ms(message: dict[str, Any]) -> int:
    at_ms = message.get("at_ms")
    if type(at_ms) is not int or not 0 <= at_ms <= MAX_INT:
        raise EventError("bad_at_ms", f"at_ms must be a whole number from 0 to {MAX_INT}")
    return at_ms


def _type(message: dict[str, Any]) -> str:
    kind = message.get("type")
    if not isinstance(kind, str) or not TYPE.fullmatch(kind) or kind == REFUSED:
        raise EventError(
            "bad_type", f"type must be 1 to 64 small letters and underscores, and not {REFUSED!r}"
        )
    return kind


def _data(message: dict[str, Any]) -> dict[str, Any]:
    data = message.get("data")
    if not isinstance(data, dict):
        raise EventError("bad_data", "data must be an object")
    return data


def checked_data(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """`data` as it is, if it holds what the site relies on in an event of that type. Raises EventError."""
    for key, wanted in REQUIRED.get(kind, {}).items():
        value = data.get(key)
        if type(value) is not wanted:
            raise EventError("bad_data", f"{key} of {kind} must be a {wanted.__name__}")
        if key in ("id", "toolCallId", "code") and len(data[key]) > MAX_ID:
            raise EventError("bad_data", f"{key} of {kind} is longer than {MAX_ID} characters")
    if kind in TEXTS and type(data.get("is_final", True)) is not bool:
        raise EventError("bad_data", f"is_final of {kind} must be a bool")
    if kind == "tool_call":
        ToolCall.read(data)
    if not is_storable(data, MAX_DEPTH):
        raise EventError(
            "not_storable", "data holds a character, a number or a nesting that cannot be stored"
        )
    return data


def is_storable(value: Any, depth: int) -> bool:
    """JSON can say things that a database cannot keep: U+0000, half a character, 1e999, endless nesting."""
    match value:
        case str():
            return UNSTORABLE.search(value) is None
        case float():
            return math.isfinite(value)
        case dict():
            return depth > 0 and all(
                is_storable(k, 0) and is_storable(v, depth - 1) for k, v in value.items()
            )
        case list():
            return depth > 0 and all(is_storable(item, depth - 1) for item in value)
        case _:
            return True


def _timestamp(message: dict[str, Any]) -> datetime | None:
    """The agent's own clock; a text that is no time says nothing, and is no reason to lose the event."""
    timestamp = message.get("timestamp")
    if timestamp is None:
        return None
    if not isinstance(timestamp, str):
        raise EventError("bad_timestamp", "timestamp must be a text in ISO 8601")
    try:
        moment = datetime.fromisoformat(timestamp)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
