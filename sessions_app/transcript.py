"""A call's log as people read it: one line for each event, in the order of the conversation."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import Any

from sessions_app.events import ToolCall
from sessions_app.models import SessionEvent, VoiceSession

TURNS = ("input_audio_transcript", "response_text")
SILENT = ("speech_started", "speech_stopped", "reply_audible")
"""In the log for those who measure; a reader of the conversation has no use for them."""

CONTEXT = (*TURNS, "interruption", "tool_call", "tool_call_output")
"""Events whose line depends on other events."""

NOTES = {
    "connected": "The caller joined",
    "session_started": "The call began",
    "session_ended": "The agent ended the call",
    "hang_up": "The caller hung up",
    "disconnected": "The media connection ended",
    "reconnected": "Connected again",
    "playback_allowed": "The agent's voice could be heard from here on",
    "microphone_restored": "The microphone works again",
}
TROUBLES = {
    "reconnecting": "The media connection was lost; trying again",
    "playback_blocked": "The browser held back the agent's voice until the caller's next click",
    "microphone_lost": "The microphone was lost",
    "page_asleep": "The caller's page was asleep",
    "message_dropped": "A message from the agent could not be read",
    "event_lost": "An event was lost: the caller's browser had no room to keep it",
    "call_failed": "The call failed",
    "rejected": "The site refused a report from the caller's browser",
}

ONE_LINE = 90
"""Longer tool outputs are folded."""


@dataclass(frozen=True)
class Line:
    """One event as staff read it."""

    event: SessionEvent
    kind: str
    """caller, agent, tool, output, interruption or note"""
    label: str
    tool: str = ""
    words: str = ""
    body: str = ""
    facts: Sequence[tuple[str, str]] = ()
    is_cut: bool = False
    is_trouble: bool = False

    @property
    def clock(self) -> str:
        return clock(timedelta(milliseconds=self.event.at_ms))

    @property
    def turn(self) -> str:
        turn = self.event.data.get("turn_id")
        return turn if self.event.role and isinstance(turn, str) else ""

    @property
    def is_long(self) -> bool:
        length = len(self.body) + sum(len(name) + len(value) for name, value in self.facts)
        return self.kind == "output" and length > ONE_LINE

    @property
    def origin(self) -> str:
        """Who reported it, unless that is the caller's browser."""
        return {"server": "the site", "platform": "the platform"}.get(self.event.source, "")


def clock(length: timedelta) -> str:
    """`0:07`, `12:30`, `1:02:03`"""
    minutes, seconds = divmod(int(length.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def plain(value: Any) -> str:
    """A JSON value for people."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


def pairs(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, plain(value)) for name, value in data.items() if value != ""]


def cut_texts(events: Iterable[SessionEvent]) -> set[int]:
    """
    The ids of the agent's texts that the caller cut off; `events` in the conversation's order.

    An interruption cuts what the agent was saying, so the way goes backwards from it. The speech that cuts in
    may have begun before the interruption, but its transcript is logged after it. Words of the caller that
    were logged before it are another matter: whatever answered them was cut before its first word, and there
    is nothing to mark.
    """
    cut: set[int] = set()
    spoken: dict[str, list[SessionEvent]] = {}
    for event in events:
        turns = spoken.setdefault(event.source, [])
        if event.role:
            turns.append(event)
        elif event.type == "interruption":
            for turn in reversed(turns):
                if turn.role == "agent":
                    cut.add(turn.pk)
                if turn.role == "agent" or turn.seq < event.seq:
                    break
    return cut


def changed_by(new: Iterable[SessionEvent], context: Sequence[SessionEvent]) -> list[SessionEvent]:
    """The earlier events of `context` whose lines look different because of `new` ones."""
    new_ids = {event.pk for event in new}
    earlier = [event for event in context if event.pk not in new_ids]
    changed = cut_texts(earlier) ^ cut_texts(context)
    return [event for event in earlier if event.pk in changed]


def lines(events: Iterable[SessionEvent], context: Sequence[SessionEvent]) -> list[Line]:
    """`events` as staff read them; `context`: all of the call that are of a type in CONTEXT, in order."""
    cuts = cut_texts(context)
    calls = {ToolCall.read(event.data).id: event for event in context if event.type == "tool_call"}
    return [line_of(event, cuts, calls) for event in events if event.type not in SILENT]


def line_of(event: SessionEvent, cuts: set[int], calls: Mapping[str, SessionEvent]) -> Line:
    data = event.data
    if event.role:
        words, is_cut = event.text.strip(), event.pk in cuts
        return Line(event, event.role, event.role.capitalize(), words=words, is_cut=is_cut)
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
        case "ended" if event.source == SessionEvent.Source.SERVER:
            reason = dict(VoiceSession.EndReason.choices).get(data["reason"], data["reason"])
            return Line(event, "note", "The site closed the call:", words=reason)
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
