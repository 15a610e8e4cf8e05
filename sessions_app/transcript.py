"""A call's log as people read it: one line for each event, in the order of the conversation.

Rows of the platform (see reconcile.py) that tell a line of the browser's differently stand in that line. So
do those that the browser's left-overs, which came after the comparison, tell too: no turn is shown twice.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import chain
from typing import Any

from sessions_app.comparison import INTERRUPTION_MS, TOLD, Told, Verdict, match, nearest
from sessions_app.events import ToolCall
from sessions_app.models import SessionEvent, VoiceSession
from sessions_app.situations import SITUATIONS

BROWSER, PLATFORM = SessionEvent.Source.BROWSER, SessionEvent.Source.PLATFORM

NOT_IN_RECORD = "not_in_record"
"""The type of the platform's row that says of a line of the browser's that the record has nothing like it."""

NEAR = 20
"""What an interruption cuts is one of the last turns before it; a log may hold ten thousand."""

SILENT = ("speech_started", "speech_stopped", "reply_audible")
"""In the log for those who measure; a reader of the conversation has no use for them."""

CONTEXT = (*TOLD, "interruption", NOT_IN_RECORD)
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
    is_hidden: bool = False
    """It has no place of its own: another line tells the same, or shows it."""
    is_alone: bool = False
    """The platform's record has nothing like it."""
    is_side: bool = False
    """It stands within another line, as the other side's words."""
    other: "Line | None" = None
    """The same, as the platform's record tells it differently."""
    is_other_harmless: bool = False
    """The two differ only in where a turn that was cut off ends."""

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


@dataclass(frozen=True)
class Look:
    """What a line owes to other events than its own."""

    is_cut: bool = False
    is_hidden: bool = False
    is_alone: bool = False
    other: SessionEvent | None = None


def looks(context: Sequence[SessionEvent]) -> dict[int, Look]:
    """By the ids of the events; `context`: all of the call that are of a type in CONTEXT, in order."""
    others, alone, hidden = _platforms_side(context)
    # An interruption that names its turn does so in any case.
    cut = cut_texts(
        [e for e in context if e.pk not in hidden or (e.type == "interruption" and e.data.get("turn_id"))]
    )
    return {
        event.pk: Look(event.pk in cut, event.pk in hidden, event.pk in alone, others.get(event.pk))
        for event in context
    }


def _platforms_side(
    context: Sequence[SessionEvent],
) -> tuple[dict[int, SessionEvent], set[int], set[int]]:
    """The platform's rows by the ids of the lines in which they stand; the ids of the lines that the record
    does not have, and of those that have no place of their own."""
    others: dict[int, SessionEvent] = {}
    alone: set[int] = set()
    hidden: set[int] = set()
    reported = {event.seq: event for event in context if event.source == BROWSER}
    recovered: dict[tuple[str, int], SessionEvent] = {}
    for row in sorted((event for event in context if event.source == PLATFORM), key=lambda row: row.seq):
        _, seq = row.data.get("differs_from", ("", 0))
        line = reported.get(seq)
        if row.type == NOT_IN_RECORD:
            hidden.add(row.pk)
            if line is not None:
                (alone.discard if row.data.get("is_withdrawn") else alone.add)(line.pk)
        elif line is not None:
            hidden.add(row.pk)
            others[line.pk] = row
        else:
            # A platform that has changed an entry since: its last word counts.
            place = row.type, row.data.get("entry", -row.seq)
            if place in recovered:
                hidden.add(recovered[place].pk)
            recovered[place] = row
    for row, line, is_same in _told_later(context, list(recovered.values())):
        hidden.add(row.pk)
        if not is_same:
            others[line.pk] = row
    return others, alone, hidden


def _told_later(
    context: Sequence[SessionEvent], recovered: Sequence[SessionEvent]
) -> list[tuple[SessionEvent, SessionEvent, bool]]:
    """Recovered rows that the browser has told, too, after they were added: with its line, and whether that
    says the same."""
    found = []
    waiting: dict[int, list[SessionEvent]] = defaultdict(list)
    for row in recovered:
        waiting[row.data.get("told_up_to", 0)].append(row)
    taken: set[int] = set()
    for told_up_to, rows in sorted(waiting.items()):
        later = [event for event in context if event.source == BROWSER and event.seq > told_up_to]
        later = [event for event in later if event.pk not in taken]
        pairs = match(_told(later), _told(rows))
        pairs_of_events = [
            (rows[pair.record.index], later[pair.log.index], pair.verdict == Verdict.SAME) for pair in pairs
        ]
        marks = [event for event in later if event.type == "interruption"]
        cuts = [row for row in rows if row.type == "interruption"]
        near = nearest([mark.at_ms for mark in marks], [row.at_ms for row in cuts], INTERRUPTION_MS)
        pairs_of_events += [(cuts[other], marks[mine], True) for mine, other in near]
        taken |= {line.pk for _, line, _ in pairs_of_events}
        found += pairs_of_events
    return found


def _told(events: Sequence[SessionEvent]) -> list[Told]:
    return [
        Told.read(index, event.type, event.data) for index, event in enumerate(events) if event.type in TOLD
    ]


def cut_texts(events: Iterable[SessionEvent]) -> set[int]:
    """
    The ids of the agent's texts that the caller cut off; `events` in the conversation's order.

    An interruption cuts what the agent was saying, so the way goes backwards from it. The speech that cuts in
    may have begun before the interruption, but its transcript is logged after it. Words of the caller that
    were logged before it are another matter: whatever answered them was cut before its first word, and there
    is nothing to mark. The platform's interruptions may name the turn.
    """
    cut: set[int] = set()
    turns: list[SessionEvent] = []
    named: set[str] = set()
    for event in events:
        if event.role:
            turns.append(event)
        elif event.type == "interruption":
            if event.source == PLATFORM and event.data.get("turn_id"):
                named.add(event.data["turn_id"])
                continue
            for turn in turns[: -NEAR - 1 : -1]:
                if turn.role == "agent":
                    cut.add(turn.pk)
                is_earlier = turn.source == event.source and turn.seq < event.seq
                if turn.role == "agent" or is_earlier:
                    break
    if named:
        cut |= {turn.pk for turn in turns if turn.role == "agent" and turn.data.get("turn_id") in named}
    return cut


def changed_by(new: Iterable[SessionEvent], context: Sequence[SessionEvent]) -> list[SessionEvent]:
    """The earlier events of `context` whose lines look different because of `new` ones."""
    new_ids = {event.pk for event in new}
    earlier = [event for event in context if event.pk not in new_ids]
    before, after = looks(earlier), looks(context)
    return [event for event in earlier if before[event.pk] != after[event.pk]]


def lines(events: Iterable[SessionEvent], context: Sequence[SessionEvent]) -> list[Line]:
    """`events` as staff read them; `context`: all of the call that are of a type in CONTEXT, in order."""
    looks_of = looks(context)
    calls = {ToolCall.read(event.data).id: event for event in context if event.type == "tool_call"}
    return [
        line_of(event, looks_of.get(event.pk, Look()), calls) for event in events if event.type not in SILENT
    ]


def line_of(event: SessionEvent, look: Look, calls: Mapping[str, SessionEvent]) -> Line:
    line = _line(event, calls)
    other = replace(_line(look.other, calls), is_side=True) if look.other else None
    return replace(
        line,
        is_cut=look.is_cut or is_unfinished(event),
        is_hidden=look.is_hidden,
        is_alone=look.is_alone,
        other=other,
        is_other_harmless=bool(look.other and look.other.data.get("is_cut")),
    )


def is_unfinished(event: SessionEvent) -> bool:
    """Whether these are the words so far of a turn that the end of the call, or of its page, cut off."""
    return bool(event.role and event.data.get("cut_by"))


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
