"""What a line of a transcript owes to other lines: it is cut off, answered, told differently, or not shown.

Rows of the platform (see reconcile.py) that tell a line of the browser's differently stand in that line. So
do those that the browser's left-overs, which came after the comparison, tell too: no turn is shown twice. And
what belongs together stands together: a tool's answer in its call, an interruption in the text that it cuts.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sessions_app.comparison import INTERRUPTION_MS, TOLD, Told, Verdict, match, nearest
from sessions_app.events import ToolCall
from sessions_app.models import SessionEvent

BROWSER, PLATFORM = SessionEvent.Source.BROWSER, SessionEvent.Source.PLATFORM

NOT_IN_RECORD = "not_in_record"
"""The type of the platform's row that says of a line of the browser's that the record has nothing like it."""

NEAR = 20
"""What an interruption cuts is one of the last turns before it; a log may hold ten thousand."""


@dataclass(frozen=True)
class Look:
    """What a line owes to other events than its own."""

    cut: SessionEvent | None = None
    """The interruption that cut this text off."""
    is_hidden: bool = False
    """It has no place of its own: another line tells the same, or tells it differently."""
    is_inside: bool = False
    """It stands in another line: an interruption in the text that it cuts, a tool's answer in its call."""
    is_alone: bool = False
    """The platform's record has nothing like it."""
    other: SessionEvent | None = None
    """The same, as the platform's record tells it differently."""
    answer: SessionEvent | None = None
    """The output of this tool call."""
    look_of_answer: "Look | None" = None
    reply: SessionEvent | None = None
    """When this text of the agent's began to be heard (a reply_audible)."""


@dataclass
class _Sides:
    """The platform's rows, and how the browser's lines stand to them, by ids of events."""

    others: dict[int, SessionEvent] = field(default_factory=dict)
    """In whose line they stand."""
    alone: set[int] = field(default_factory=set)
    """Lines that the record does not have."""
    hidden: set[int] = field(default_factory=set)
    """Lines that have no place of their own."""


def looks(context: Sequence[SessionEvent]) -> dict[int, Look]:
    """By the ids of the events that have any; `context`: all of the call that are of a type in CONTEXT, in
    order."""
    sides = _platforms_side(context)
    shown = [event for event in context if event.pk not in sides.hidden]
    # An interruption that names its turn cuts it in any case.
    named = [e for e in context if e.pk in sides.hidden and e.type == "interruption" and turn_of(e)]
    cuts = cut_texts([*shown, *named])
    answers = _answers(shown)
    replies = _replies(shown)
    inside = {event.pk for event in answers.values()}
    inside |= {event.pk for event in cuts.values()} - sides.alone - sides.hidden
    found: dict[int, Look] = {}

    def look_of(event: SessionEvent) -> Look:
        pk = event.pk
        answer = answers.get(pk)
        return Look(
            cuts.get(pk),
            pk in sides.hidden,
            pk in inside,
            pk in sides.alone,
            sides.others.get(pk),
            answer,
            look_of(answer) if answer else None,
            replies.get(pk),
        )

    odd = (
        sides.hidden
        | sides.alone
        | inside
        | sides.others.keys()
        | cuts.keys()
        | answers.keys()
        | replies.keys()
    )
    for event in context:
        if event.pk in odd:
            found[event.pk] = look_of(event)
    return found


def _answers(events: Iterable[SessionEvent]) -> dict[int, SessionEvent]:
    """The first output of each tool call, by the call's id. A second one stands by itself."""
    calls: dict[str, SessionEvent] = {}
    outputs: dict[str, SessionEvent] = {}
    for event in events:
        if event.type == "tool_call":
            calls.setdefault(ToolCall.read(event.data).id, event)
        elif event.type == "tool_call_output":
            outputs.setdefault(event.data["toolCallId"], event)
    return {call.pk: outputs[name] for name, call in calls.items() if name in outputs}


def _replies(events: Iterable[SessionEvent]) -> dict[int, SessionEvent]:
    """When the agent's texts began to be heard, by their ids; `events` in order.

    A sound that comes before any word of its text has no turn's name: it is that of the agent's next words.
    """
    replies: dict[int, SessionEvent] = {}
    named: dict[str, SessionEvent] = {}
    texts: list[SessionEvent] = []
    nameless: SessionEvent | None = None
    for event in events:
        if event.type == "reply_audible":
            if turn := turn_of(event):
                named.setdefault(turn, event)
            else:
                nameless = event
        elif event.role == "agent":
            texts.append(event)
            if nameless:
                replies[event.pk] = nameless
        if event.role:
            nameless = None
    for text in texts:
        # A turn may come in parts, and is heard for the first time once.
        if reply := named.pop(turn_of(text), None):
            replies[text.pk] = reply
    return replies


def _platforms_side(context: Sequence[SessionEvent]) -> _Sides:
    sides = _Sides()
    others, alone, hidden = sides.others, sides.alone, sides.hidden
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
    return sides


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


def cut_texts(events: Iterable[SessionEvent]) -> dict[int, SessionEvent]:
    """
    The interruptions by the ids of the agent's texts that they cut off; `events` in the conversation's order.

    An interruption cuts what the agent was saying, so the way goes backwards from it. The speech that cuts in
    may have begun before the interruption, but its transcript is logged after it. Words of the caller that
    were logged before it are another matter: whatever answered them was cut before its first word, and there
    is nothing to mark. The platform's interruptions may name the turn.
    """
    cut: dict[int, SessionEvent] = {}
    turns: list[SessionEvent] = []
    named: dict[str, SessionEvent] = {}
    for event in events:
        if event.role:
            turns.append(event)
        elif event.type == "interruption":
            if event.source == PLATFORM and (name := turn_of(event)):
                named.setdefault(name, event)
                continue
            for turn in turns[: -NEAR - 1 : -1]:
                if turn.role == "agent":
                    cut.setdefault(turn.pk, event)
                is_earlier = turn.source == event.source and turn.seq < event.seq
                if turn.role == "agent" or is_earlier:
                    break
    for turn in reversed(turns) if named else ():
        # Of a turn in parts, the last.
        if turn.role == "agent" and (by := named.pop(turn_of(turn), None)):
            cut.setdefault(turn.pk, by)
    return cut


def changed_by(new: Iterable[SessionEvent], context: Sequence[SessionEvent]) -> list[SessionEvent]:
    """The earlier events of `context` whose lines look different because of `new` ones."""
    new_ids = {event.pk for event in new}
    earlier = [event for event in context if event.pk not in new_ids]
    before, after = looks(earlier), looks(context)
    return [event for event in earlier if before.get(event.pk) != after.get(event.pk)]


def turn_of(event: SessionEvent) -> str:
    """The name of the turn that an event belongs to; "" if it has none."""
    turn = event.data.get("turn_id")
    return turn if isinstance(turn, str) else ""


def is_unfinished(event: SessionEvent) -> bool:
    """Whether these are the words so far of a turn that the end of the call, or of its page, cut off."""
    return bool(event.role and event.data.get("cut_by"))
