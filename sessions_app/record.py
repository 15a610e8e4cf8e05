"""The platform's own record of a call, read with care: it comes from outside, and parts may be anything."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeGuard

from sessions_app.events import MAX_DEPTH, MAX_ID

MAX_ENTRIES = 20_000
"""As many as a log has lines."""

MAX_TEXT = 64 * 1024
"""Characters of one text; no page can report one that is longer, so what is cut off was not in any log."""

OVER = ("ended", "auth_failed")
"""The statuses after which nothing more happens in a call."""

FACTS = (
    "id",
    "agent_id",
    "room",
    "identity",
    "status",
    "created_at",
    "started_at",
    "ended_at",
    "duration_seconds",
    "termination_reason",
    "summary",
    "cost",
    "tags",
)

SPEAKERS = {"user": "caller", "assistant": "agent", "agent": "agent"}
WORDLESS_ROLES = ("system", "developer")
"""What a model was told is nothing that was said in the call."""

HALF_CHARACTERS = dict.fromkeys((0, *range(55296, 57344)), "�")
"""What JSON can say and no database can keep."""


class RecordError(Exception):
    """This is no record of a call; the text says why, as the end of a sentence."""


@dataclass(frozen=True)
class Entry:
    """One entry of the transcript that tells of the conversation."""

    index: int
    """Its place in `transcript.entries`."""
    type: str
    """The wire's: response_text, input_audio_transcript, tool_call, tool_call_output or interruption"""
    data: dict[str, Any]
    """As the browser would have reported it."""
    at: datetime | None


@dataclass(frozen=True)
class Record:
    facts: dict[str, Any]
    """The record without its transcript, fit to be stored."""
    entries: list[Entry]
    unreadable: int
    """Entries that should tell something, but are not in the agreed form."""

    @property
    def is_over(self) -> bool:
        return self.facts["status"] in OVER

    def moment(self, name: str) -> datetime | None:
        return moment(self.facts.get(name))


def read(answer: Any) -> Record:
    """Raises RecordError."""
    if not isinstance(answer, dict):
        raise RecordError("it is not a JSON object")
    if not isinstance(answer.get("status"), str):
        raise RecordError("it has no status")
    facts = {name: storable(answer[name]) for name in FACTS if name in answer}
    transcript = answer.get("transcript")
    # A call in which nobody said a word may have none.
    entries = transcript.get("entries") if isinstance(transcript, dict) else transcript
    if entries is None:
        entries = []
    if not isinstance(entries, list):
        raise RecordError("its transcript holds no list of entries")
    if len(entries) > MAX_ENTRIES:
        raise RecordError(f"it has {len(entries)} entries, and a log has at most {MAX_ENTRIES} lines")
    return Record(facts, *_read_entries(entries))


def _read_entries(entries: Iterable[Any]) -> tuple[list[Entry], int]:
    found: list[Entry] = []
    unreadable = 0
    repeated: set[str] = set()
    reader = _Reader()
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            unreadable += 1
            continue
        entry = storable(entry)
        # Told twice, to the moment: once is what happened.
        key = json.dumps({name: entry[name] for name in entry if name != "index"}, sort_keys=True)
        if entry.get("createdAt") is not None and key in repeated:
            continue
        repeated.add(key)
        try:
            found += reader.read(index, entry)
        except RecordError:
            unreadable += 1
    return _in_time([entry for entry in found if not reader.is_superfluous(entry)]), unreadable


class _Reader:
    """Entries one after the other: what a tool has answered may stand in its call, in an entry of its own, or
    in both, and such an entry need not name the call that it follows."""

    def __init__(self) -> None:
        self._last_call = ""
        self._answers: dict[str, Entry] = {}
        self._own: set[str] = set()

    def read(self, index: int, entry: Mapping[str, Any]) -> list[Entry]:
        """What the entry tells. Raises RecordError."""
        at = moment(entry.get("createdAt"))
        match entry.get("type", "message"):
            case "message":
                return _read_message(index, entry, at)
            case "interruption":
                return [Entry(index, "interruption", _turn(entry), at)]
            case "tool_call":
                return self._read_tool_call(index, entry, at)
            case "tool_call_output":
                return self._read_output(index, entry, at)
            case str():
                return []  # of a newer platform
            case _:
                raise RecordError("an entry without a type")

    def is_superfluous(self, entry: Entry) -> bool:
        """Whether another entry tells of the same output."""
        if entry.type != "tool_call_output":
            return False
        return self._answers[entry.data["toolCallId"]] is not entry

    def _read_tool_call(self, index: int, entry: Mapping[str, Any], at: datetime | None) -> list[Entry]:
        call = entry.get("toolCall")
        if not isinstance(call, dict) or not _is_id(call.get("callId")) or not _is_id(call.get("toolName")):
            raise RecordError("a tool call without an id or a name")
        call_id = self._last_call = call["callId"]
        given = _arguments(call.get("arguments")).items()
        arguments = [{"name": name, "value": value} for name, value in given]
        data = {"toolCallId": call_id, "toolName": call["toolName"], "arguments": arguments}
        told = [Entry(index, "tool_call", data, at or moment(call.get("startedAt")))]
        if isinstance(call.get("output"), str):
            data = {"toolCallId": call_id, "output": call["output"]}
            told.append(Entry(index, "tool_call_output", data, moment(call.get("endedAt")) or at))
            self._answers.setdefault(call_id, told[-1])
        return told

    def _read_output(self, index: int, entry: Mapping[str, Any], at: datetime | None) -> list[Entry]:
        call = entry.get("toolCall")
        call_id = call.get("callId") if isinstance(call, dict) else None
        output = entry.get("toolCallOutput")
        if call_id is None and self._last_call:
            call_id = self._last_call
            if (answer := self._answers.get(call_id)) is not None:
                if answer.data["output"] == output:
                    return []
                raise RecordError("a second output of one tool call")
        if not isinstance(output, str) or not _is_id(call_id):
            raise RecordError("the output of no tool call")
        told = Entry(index, "tool_call_output", {"toolCallId": call_id, "output": output}, at)
        # It has a time of its own; of several, the first counts.
        if call_id not in self._own:
            self._own.add(call_id)
            self._answers[call_id] = told
        return [told]


def _read_message(index: int, entry: Mapping[str, Any], at: datetime | None) -> list[Entry]:
    words = entry.get("message")
    role = entry.get("role")
    if words in (None, "") or role in WORDLESS_ROLES:
        return []
    if not isinstance(words, str) or not isinstance(role, str) or role not in SPEAKERS:
        raise RecordError("a message without words or a speaker")
    if SPEAKERS[role] == "agent":
        return [Entry(index, "response_text", {"text": words, **_turn(entry), "is_final": True}, at)]
    data = {"transcript": words, **_turn(entry), "is_final": True}
    return [Entry(index, "input_audio_transcript", data, at)]


def _turn(entry: Mapping[str, Any]) -> dict[str, Any]:
    turn = entry.get("turnId")
    return {"turn_id": turn} if isinstance(turn, str) and 0 < len(turn) <= MAX_ID else {}


def _is_id(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= MAX_ID


def _arguments(given: Any) -> dict[str, Any]:
    """By name; a JSON text that cannot be read is one argument of the name `arguments`."""
    if isinstance(given, str) and given:
        try:
            parsed = json.loads(given)
        except (ValueError, RecursionError):
            parsed = None
        given = storable(parsed) if isinstance(parsed, dict) else {"arguments": given}
    return given if isinstance(given, dict) else {}


def _in_time(entries: list[Entry]) -> list[Entry]:
    """In the order in which they began: a platform may write a turn down at its end, after what began in it.

    An entry without a time stays behind the one that it follows.
    """
    reached = datetime.min.replace(tzinfo=UTC)
    keyed = []
    for entry in entries:
        reached = entry.at or reached
        keyed.append((reached, entry))
    return [entry for _, entry in sorted(keyed, key=lambda pair: pair[0])]


def moment(value: Any) -> datetime | None:
    """A time in ISO 8601; None if it is none. Without a zone it counts as UTC."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def storable(value: Any, depth: int = MAX_DEPTH) -> Any:
    """A JSON value with what no database keeps replaced: U+0000, half characters, 1e999, endless nesting."""
    match value:
        case str():
            text = value.translate(HALF_CHARACTERS)
            return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {storable(k): storable(v, depth - 1) for k, v in value.items()} if depth > 0 else "…"
        case list():
            return [storable(item, depth - 1) for item in value] if depth > 0 else "…"
        case _:
            return value
