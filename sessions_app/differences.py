"""What a log and the platform's record of the same call tell differently, and when. No database in here.

Time: `at_ms` counts from the session's created_at on the browser's monotonic clock; the record's createdAt is
a time of day on the platform's. Each line that both sides have gives one difference of the two. Their median
is the difference of the clocks, together with what the two sides usually call a turn's beginning; the odd
turn whose beginning one side noticed late does not move it. A line that only the record has stands at its
createdAt less that, but never before or behind the lines between which the record has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

from sessions_app.comparison import INTERRUPTION_MS, TOLD, TURNS, Pair, Told, Verdict, match, nearest
from sessions_app.events import MAX_INT
from sessions_app.looks import cut_texts, is_unfinished
from sessions_app.models import SessionEvent
from sessions_app.record import Entry


@dataclass
class Comparison:
    """What the record has that the log lacks, and the other way round."""

    entries: Sequence[Entry]
    events: Sequence[SessionEvent]
    pairs: list[Pair] = field(default_factory=list)
    times: dict[int, int] = field(default_factory=dict)
    """For each place in `entries`, its `at_ms` on the call's clock."""
    interruptions: dict[int, int] = field(default_factory=dict)
    """Places in `entries` and in `events`."""
    farewells: set[int] = field(default_factory=set)
    """Places in `entries` of the agent's being cut off by the hang-up, which the log tells as such."""

    @property
    def missing(self) -> list[int]:
        known = {pair.record.index for pair in self.pairs} | self.interruptions.keys() | self.farewells
        return [index for index in range(len(self.entries)) if index not in known]

    @property
    def alone(self) -> list[SessionEvent]:
        """Lines with words, or of tools, that only the log has. A mark of an interruption is no claim."""
        known = {pair.log.index for pair in self.pairs}
        return [
            event
            for index, event in enumerate(self.events)
            if index not in known and event.type in TOLD and (event.type not in TURNS or event.text.strip())
        ]

    @property
    def differing(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.verdict == Verdict.DIFFERS]


def compare(created_at: datetime, events: Sequence[SessionEvent], entries: Sequence[Entry]) -> Comparison:
    """`events`: the browser's; both in the conversation's order."""
    log_side = [
        Told.read(index, event.type, event.data) for index, event in enumerate(events) if event.type in TOLD
    ]
    record_side = [
        Told.read(index, entry.type, entry.data) for index, entry in enumerate(entries) if entry.type in TOLD
    ]
    cut_ids = cut_texts(events)
    cut_in_log = {index for index, event in enumerate(events) if event.pk in cut_ids or is_unfinished(event)}
    guessed = {index for index, event in enumerate(events) if event.role == "caller" and is_unfinished(event)}
    pairs = match(log_side, record_side, cut_in_log, cut_entries(entries), guessed)
    comparison = Comparison(entries, events, pairs)
    times = comparison.times = places_in_time(created_at, comparison)
    comparison.interruptions = _match_interruptions(events, entries, times)
    left = min((event.at_ms for event in events if event.type == "hang_up"), default=MAX_INT)
    last = max((told.index for told in record_side), default=-1)
    comparison.farewells = {
        index
        for index, entry in enumerate(entries)
        if entry.type == "interruption" and times[index] >= left and index > last
    }
    return comparison


def cut_entries(entries: Sequence[Entry]) -> set[int]:
    """The places of the agent's turns that an interruption cut: the one it names, else the one before it."""
    cut = set()
    last: int | None = None
    by_turn: dict[str, int] = {}
    for index, entry in sorted(enumerate(entries), key=lambda item: item[1].index):
        turn = entry.data.get("turn_id")
        if entry.type == "response_text":
            last = index
            if turn:
                by_turn[turn] = index
        elif entry.type == "interruption":
            found = by_turn.get(turn) if turn else last
            if found is not None:
                cut.add(found)
    return cut


def places_in_time(created_at: datetime, comparison: Comparison) -> dict[int, int]:
    """For each place in `entries`, its `at_ms` on the call's clock (see above)."""
    entries, events = comparison.entries, comparison.events
    known = {pair.record.index: events[pair.log.index].at_ms for pair in comparison.pairs}
    raw = {
        index: round((entry.at - created_at) / timedelta(milliseconds=1))
        for index, entry in enumerate(entries)
        if entry.at is not None
    }
    differences = [raw[index] - at_ms for index, at_ms in known.items() if index in raw]
    shift = round(median(differences)) if differences else 0
    after = _next_known(len(entries), known)
    times: dict[int, int] = {}
    reached = 0
    for index in range(len(entries)):
        if index in known:
            times[index] = known[index]
            reached = max(reached, known[index])
            continue
        at_ms = raw[index] - shift if index in raw else reached
        # Of two lines with the same time the browser's stands first.
        following = after[index]
        latest = MAX_INT if following is None else following - 1
        at_ms = max(min(at_ms, latest), min(reached, MAX_INT), 0)
        times[index] = min(at_ms, MAX_INT)
        reached = max(reached, times[index])
    return times


def _next_known(length: int, known: dict[int, int]) -> list[int | None]:
    """For each place, the earliest time among the known ones behind it; None if there is none."""
    following: list[int | None] = [None] * length
    earliest: int | None = None
    for index in reversed(range(length)):
        following[index] = earliest
        if index in known:
            earliest = known[index] if earliest is None else min(earliest, known[index])
    return following


def _match_interruptions(
    events: Sequence[SessionEvent], entries: Sequence[Entry], times: dict[int, int]
) -> dict[int, int]:
    """By time; of a record without times, the first is the first."""
    ours = [index for index, event in enumerate(events) if event.type == "interruption"]
    theirs = [index for index, entry in enumerate(entries) if entry.type == "interruption"]
    limit_ms = INTERRUPTION_MS if all(entries[index].at for index in theirs) else MAX_INT
    theirs.sort(key=lambda index: times[index])
    pairs = nearest([events[n].at_ms for n in ours], [times[n] for n in theirs], limit_ms)
    return {theirs[other]: ours[mine] for mine, other in pairs}
