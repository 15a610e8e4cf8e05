"""A call's log as people read it: one line for each event, in the order of the conversation."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from sessions_app.comparison import TOLD
from sessions_app.events import MAX_INT, ToolCall
from sessions_app.looks import NOT_IN_RECORD, Look, is_unfinished, looks, turn_of
from sessions_app.models import SessionEvent, VoiceSession
from sessions_app.situations import SITUATIONS

UNSEEN = ("speech_started", "speech_stopped")
"""When the voice-activity detector heard the caller: two of five lines of a log, and no other's matter."""

SILENT = (*UNSEEN, "reply_audible")
"""In the log for those who measure; a reader of the conversation has no use for them."""

CONTEXT = (*TOLD, "interruption", "reply_audible", NOT_IN_RECORD)
"""Events whose line depends on other events."""

NOTICES = {code: situation for code, situation in SITUATIONS.items() if situation.kind == "notice"}

NOTES = {
    "connected": "The caller joined",
    "session_started": "The call began",
    "session_ended": "The agent ended the call",
    "disconnected": "The media connection ended",
    "reconnected": "Connected again",
    "playback_allowed": "The agent's voice could be heard from here on",
    "microphone_restored": "The microphone works again",
    "microphone_heard": "Sound came from the microphone again",
    "connection_good": "The agent got through again",
    "agent_heard": "The agent's sound arrived again",
    # What was merely offered is no trouble.
    **{code: notice.for_staff for code, notice in NOTICES.items() if notice.action == "device"},
}
TROUBLES = {
    **{code: notice.for_staff for code, notice in NOTICES.items() if notice.action != "device"},
    "page_asleep": "The caller's page was asleep",
    "message_dropped": "A message from the agent could not be read",
    "event_lost": "An event was lost: the caller's browser had no room to keep it",
    "rejected": "The site refused a report from the caller's browser",
}

ONE_LINE = 90
"""Longer tool outputs are folded."""


@dataclass(slots=True)
class Line:
    """One event as staff read it; complete once `line_of` returns it."""

    event: SessionEvent
    kind: str
    """caller, agent, tool, output, interruption or note"""
    label: str
    tool: str = ""
    words: str = ""
    body: str = ""
    facts: Sequence[tuple[str, str]] = ()
    is_cut: bool = False
    cut: SessionEvent | None = None
    """The interruption that cut it off, if that is what did."""
    is_trouble: bool = False
    is_hidden: bool = False
    """It has no place of its own: another line tells the same, or shows it."""
    is_inside: bool = False
    """It stands in the line to which it belongs: a tool's answer, an interruption."""
    is_alone: bool = False
    """The platform's record has nothing like it."""
    is_side: bool = False
    """It stands within another line, as the other side's words."""
    other: "Line | None" = None
    """The same, as the platform's record tells it differently."""
    is_other_harmless: bool = False
    """The two differ only in where a turn that was cut off ends."""
    answer: "Line | None" = None
    """Of a tool call."""
    reply: SessionEvent | None = None
    """When these words of the agent's began to be heard."""

    @property
    def clock(self) -> str:
        return clock(self.event.at_ms / 1000)

    @property
    def anchor(self) -> str:
        return f"{self.event.source}-{self.event.seq}"

    @property
    def turn(self) -> str:
        return turn_of(self.event) if self.event.role else ""

    @property
    def took_ms(self) -> int | None:
        """How long the words took to say, as the page knows it; those of before it told this have none."""
        took = self.event.data.get("took_ms") if self.event.role else None
        return took if type(took) is int and 0 < took <= MAX_INT else None

    @property
    def is_long(self) -> bool:
        length = len(self.body) + sum(len(name) + len(value) for name, value in self.facts)
        return self.kind == "output" and length > ONE_LINE

    @property
    def dispute(self) -> str:
        """How the platform's record stands to it; "" if there is nothing to say."""
        if self.is_alone:
            return "Only the browser tells this: the platform's record has nothing like it."
        if self.other is None:
            return ""
        if not self.is_other_harmless:
            return "The platform's record differs:"
        amount = "more" if len(self.other.words) > len(self.words) else "less"
        return f"The platform's record has {amount} of what was cut off:"

    @property
    def origin(self) -> str:
        """Who reported it, unless that is the caller's browser."""
        return {"server": "the site", "platform": "recovered"}.get(self.event.source, "")


def clock(seconds: float) -> str:
    """`0:07`, `12:30`, `1:02:03`"""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plain(value: Any) -> str:
    """A JSON value for people."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


def pairs(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, plain(value)) for name, value in data.items() if value != ""]


def lines(events: Iterable[SessionEvent], context: Sequence[SessionEvent]) -> list[Line]:
    """`events` as staff read them; `context`: all of the call that are of a type in CONTEXT, in order."""
    looks_of = looks(context)
    calls = {ToolCall.read(event.data).id: event for event in context if event.type == "tool_call"}
    return [line_of(event, looks_of.get(event.pk), calls) for event in events if event.type not in SILENT]


def line_of(event: SessionEvent, look: Look | None, calls: Mapping[str, SessionEvent]) -> Line:
    line = _line(event, calls)
    line.is_cut = is_unfinished(event)
    if look is None:
        return line
    if look.cut:
        line.is_cut, line.cut = True, look.cut
    line.is_hidden, line.is_inside, line.is_alone = look.is_hidden, look.is_inside, look.is_alone
    if look.other:
        line.other = _line(look.other, calls)
        line.other.is_side = True
        line.is_other_harmless = bool(look.other.data.get("is_cut"))
    if look.answer:
        line.answer = line_of(look.answer, look.look_of_answer, calls)
    line.reply = look.reply
    return line


def _line(event: SessionEvent, calls: Mapping[str, SessionEvent]) -> Line:
    data = event.data
    if event.role:
        return Line(event, event.role, event.role.capitalize(), words=event.text.strip())
    match event.type:
        case "interruption":
            return Line(event, "interruption", "The caller cut in")
        case "tool_call":
            call = ToolCall.read(data)
            return Line(event, "tool", "Tool", call.name, facts=pairs(call.arguments))
        case "tool_call_output":
            return output_line(event, calls.get(data["toolCallId"]))
        case "microphone_muted":
            act = "unmuted" if data.get("muted") is False else "muted"
            return Line(event, "note", f"The caller {act} the microphone")
        case "hang_up":
            words = "left: the page was closed" if data.get("by") == "page_closed" else "hung up"
            return Line(event, "note", f"The caller {words}")
        case "ended" if event.source == SessionEvent.Source.SERVER:
            reason = dict(VoiceSession.EndReason.choices).get(data["reason"], data["reason"])
            return Line(event, "note", "The site closed the call:", words=reason)
        case "call_failed":
            failure = SITUATIONS.get(data["code"])
            label = f"The call failed: {failure.title}" if failure else "The call failed"
            return Line(event, "note", label, facts=pairs(data), is_trouble=True)
        case kind if kind in TROUBLES:
            return Line(event, "note", TROUBLES[kind], facts=pairs(data), is_trouble=True)
        case kind:
            return Line(event, "note", NOTES.get(kind, kind), facts=pairs(data))


def output_line(event: SessionEvent, call: SessionEvent | None) -> Line:
    tool = ToolCall.read(call.data).name if call else ""
    words = f"after {max(0, event.at_ms - call.at_ms) / 1000:.1f} s" if call else ""
    output: str = event.data["output"]
    try:
        answer = json.loads(output)
        is_failure = isinstance(answer, dict) and "error" in answer
        facts = pairs(answer) if isinstance(answer, dict) else []
        body = "" if facts else plain(answer)
        # An escape can stand for half a character, which no page can hold.
        "".join([body, *chain.from_iterable(facts)]).encode()
    except (ValueError, RecursionError):  # any text is an output
        is_failure, facts, body = False, [], output
    label = "Failed" if is_failure else "Answer"
    return Line(event, "output", label, tool, words, body, facts, is_trouble=is_failure)


def parse_cursor(text: str) -> dict[str, int]:
    """`browser:12,server:1` as {"browser": 12, "server": 1}. Raises ValueError."""
    cursor = {}
    for part in filter(None, text.split(",")):
        source, _, seq = part.partition(":")
        if source not in SessionEvent.Source.values or not re.fullmatch(r"[0-9]{1,10}", seq):
            raise ValueError(f"{part!r} is not SOURCE:NUMBER with a source of {SessionEvent.Source.values}")
        cursor[source] = int(seq)
    return cursor


def moved_cursor(after: Mapping[str, int], events: Iterable[SessionEvent]) -> str:
    """The reader's cursor once `events` are read, those that have no line included."""
    cursor = {source: after.get(source, 0) for source in SessionEvent.Source.values}
    for event in events:
        cursor[event.source] = max(cursor[event.source], event.seq)
    return ",".join(f"{source}:{seq}" for source, seq in cursor.items())
