"""From a call's log to its figures (see figures.py), and to the words that search finds.

Nobody who writes to the log waits for this. `catch_up` looks for calls with new lines, when somebody is about
to read figures and every minute (see sweep).
"""

import logging
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.db import DatabaseError, DataError, connection, transaction
from django.db.models import Count, Max
from django.utils import timezone
from django.utils.text import Truncator

from sessions_app import search
from sessions_app.events import MAX_INT
from sessions_app.models import Day, Progress, SessionEvent, VoiceSession
from sessions_app.shares import shares
from sessions_app.transcript import CONTEXT, lines

logger = logging.getLogger(__name__)

SLOW_MS = 2000
"""A reply that takes longer is slow: people begin to ask whether anybody is there."""

LONGEST_REPLY_MS = 10 * 60 * 1000
"""A page reports what it likes; beyond this it is no measurement."""

REPLIES, TOOLS = 1000, 50
"""Of one call in its details, which days are made of; an hour's talk has less, a page with a defect more."""

OVERLAP = timedelta(minutes=1)
"""PostgreSQL hands out ids before the transaction ends: for so long a line may turn up that has a lower id
than one which was seen already. No transaction that writes lines takes nearly as long. SQLite has one writer
at a time, so that its ids come in order."""

WINDOW = 5000
"""Lines among which calls to digest are looked for at a time."""

BATCH = 1000
"""Lines of the calls that are written in one transaction, for which the log's writer has to wait."""

BACKLOG = 10_000
"""Lines. Fewer wait for a moment on a busy site; more do after an upgrade, or if many calls came at once."""

LINES_PER_S = 10_000
"""Can be digested by a slow machine. A page does not begin with calls that its budget has no room for."""

COLUMNS = ("session", "source", "seq", "type", "at_ms", "data")


def digest(session: VoiceSession) -> None:
    """Works out the figures of one call, keeps them, and indexes its words."""
    digest_all([session.pk])
    session.refresh_from_db()


def digest_all(ids: Sequence[UUID]) -> None:
    """As `digest`, for some calls in one transaction."""
    # The lines before the calls: an end that comes in between is then in the call's row and not among the
    # lines, and the line makes the call be digested again. The other way round it would be missed.
    events = SessionEvent.objects.filter(session__in=ids).order_by("session_id", "at_ms", "source", "seq")
    of_call = {pk: list(group) for pk, group in groupby(events.only(*COLUMNS), key=attrgetter("session_id"))}
    calls = VoiceSession.objects.filter(pk__in=of_call).only(
        "created_at", "started_at", "ended_at", "agent_id"
    )
    digests = [(call, *_digest(call, of_call[call.pk])) for call in calls.order_by("pk")]
    with transaction.atomic():
        said: dict[int, str] = {}
        hidden: list[int] = []
        changed: list[VoiceSession] = []
        for call, figures, words, unseen in digests:
            # Lines are only ever added: who has read fewer comes too late.
            newest = VoiceSession.objects.filter(pk=call.pk, digested_lines__lte=figures["digested_lines"])
            if newest.update(**figures):
                changed.append(call)
                said |= words
                hidden += unseen
        search.index(said, hidden=hidden)
        Day.objects.expire((call.created_at, call.agent_id) for call in changed)


Digest = tuple[dict[str, Any], dict[int, str], list[int]]
"""Values of the columns of Figures; words by the ids of their events; events whose words are not shown"""


def _digest(call: VoiceSession, events: Sequence[SessionEvent]) -> Digest:
    """`events`: all of the call, in the order of the conversation."""
    read = {"digested_lines": len(events), "digested_event": max(event.pk for event in events)}
    try:
        figures, said, hidden = _figures(events)
    except Exception:
        # What is logged was checked, but comes from outside: a line that brings a defect to light must not
        # keep all later calls from being digested.
        logger.exception("session %s: its lines cannot be digested", call.pk)
        return read, {}, []
    length_s = None
    if call.started_at and call.ended_at:
        length_s = min(MAX_INT, max(0, int((call.ended_at - call.started_at).total_seconds())))
    return {**read, **figures, "length_s": length_s}, said, hidden


def _figures(events: Sequence[SessionEvent]) -> Digest:
    turns: set[tuple[str, Any]] = set()
    counts: Counter[str] = Counter()
    tools: Counter[str] = Counter()
    tool_errors: Counter[str] = Counter()
    said: dict[int, str] = {}
    hidden: list[int] = []
    last_role = last_words = ""
    for line in lines(events, [event for event in events if event.type in CONTEXT]):
        event = line.event
        if line.is_hidden:
            if event.role:
                hidden.append(event.pk)
            continue
        match line.kind:
            case "caller" | "agent":
                # What several rows tell of one turn, its parts, is one turn.
                turns.add((event.type, line.turn or event.pk))
                if line.words:
                    said[event.pk] = line.words
                    last_role, last_words = line.kind, line.words
                # The platform's words stand in the browser's line, where they are found, too.
                if line.other and line.other.words and "differs_from" in line.other.event.data:
                    said[line.other.event.pk] = line.other.words
            case "tool":
                tools[line.tool] += 1
            case "output" if line.is_trouble:
                tool_errors[line.tool or "unknown"] += 1
            case "interruption":
                counts["interruptions"] += 1
            case "note" if line.is_trouble:
                counts["incidents"] += 1
    replies_ms = [ms for event in _replies(events) if (ms := reply_ms(event)) is not None]
    figures = {
        "turns": len(turns),
        "interruptions": counts["interruptions"],
        "tool_calls": tools.total(),
        "tool_errors": tool_errors.total(),
        "incidents": counts["incidents"],
        "slow_replies": sum(ms > SLOW_MS for ms in replies_ms),
        "reply_ms": round(statistics.median(replies_ms)) if replies_ms else None,
        "last_role": last_role,
        # Cut again: Truncator counts no accents that stand by themselves, PostgreSQL's column does.
        "last_words": Truncator(" ".join(last_words.split())).chars(160)[:160],
        "details": {
            "replies_ms": replies_ms[:REPLIES],
            "tools": dict(tools.most_common(TOOLS)),
            "tool_errors": dict(tool_errors.most_common(TOOLS)),
        },
    }
    return figures, said, [pk for pk in hidden if pk not in said]


def _replies(events: Sequence[SessionEvent]) -> Iterator[SessionEvent]:
    """The first sounds of what answers the caller. A greeting does not, but older pages measured it, too."""
    has_spoken = False
    for event in events:
        has_spoken = has_spoken or event.type in ("speech_stopped", "input_audio_transcript")
        if has_spoken and event.type == "reply_audible":
            yield event


def reply_ms(event: SessionEvent) -> int | None:
    """From when the platform told that the caller had stopped to the agent's first sound, as the page
    measured it; None for any other line."""
    ms = event.data.get("after_ms")
    if event.type != "reply_audible" or isinstance(ms, bool) or not isinstance(ms, int | float):
        return None
    return round(ms) if 0 <= ms <= LONGEST_REPLY_MS else None


def catch_up(budget_s: float, limit: int) -> int:
    """Digests calls that have new lines: as many as `limit`, and as can be done in about `budget_s`.

    Returns how many. Cheap when there are none; several processes may do this at once. A database that does
    not let us is logged, and whoever asked reads what is there.
    """
    try:
        return _catch_up(time.monotonic() + budget_s, limit)
    except DatabaseError:
        logger.exception("calls could not be digested; this is tried again")
        return 0


def _catch_up(deadline: float, limit: int) -> int:
    newest = SessionEvent.objects.aggregate(newest=Max("pk"))["newest"] or 0
    progress, _ = Progress.objects.get_or_create(pk=1)
    if progress.event >= newest:
        return 0
    settled = _settle(progress, newest)
    place, count, is_whole = progress.event, 0, True
    while place < newest:
        of_line = list(
            SessionEvent.objects.filter(pk__gt=place, pk__lte=newest)
            .order_by("pk")
            .values_list("pk", "session")[:WINDOW]
        )
        if not of_line:
            break
        stale = _stale({session for _, session in of_line})
        for some in shares(stale, BATCH):
            number = sum(stale[pk] for pk in some)
            if count >= limit or time.monotonic() >= deadline:
                return count
            if time.monotonic() + number / LINES_PER_S > deadline:
                is_whole = False  # a long one is left to the sweep, which has more time
                continue
            _digest_some(some)
            count += len(some)
        place = of_line[-1][0]
        if is_whole:
            looked_at = min(place, settled)
            Progress.objects.filter(pk=1, event__lt=looked_at).update(event=looked_at)
    return count


def lines_left() -> int:
    """About how many lines are not digested: calls without figures, which no search finds. 0: no BACKLOG."""
    progress = Progress.objects.filter(pk=1).first() or Progress()
    last = progress.settled
    if connection.vendor == "sqlite":
        last = SessionEvent.objects.aggregate(newest=Max("pk"))["newest"] or 0
    left = last - progress.event
    return round(left, -3) if left > BACKLOG else 0


def _digest_some(ids: Sequence[UUID]) -> None:
    """A call whose figures the database refuses must not keep all later ones from being digested."""
    try:
        digest_all(ids)
    except DataError:
        if len(ids) > 1:
            for pk in ids:
                _digest_some([pk])
            return
        logger.exception("session %s: its figures cannot be stored", ids[0])
        read = SessionEvent.objects.filter(session=ids[0]).aggregate(number=Count("pk"), newest=Max("pk"))
        VoiceSession.objects.filter(pk=ids[0]).update(
            digested_lines=read["number"], digested_event=read["newest"] or 0
        )


def _settle(progress: Progress, newest: int) -> int:
    """The last line up to which no other can turn up any more."""
    if connection.vendor == "sqlite":
        return newest
    now = timezone.now()
    if now - progress.newest_at < OVERLAP:
        return progress.settled
    # What was the newest line a minute ago: whatever has a lower id was being written then, and is there now.
    # Whoever is first moves it on; for the others, it was moved just now.
    Progress.objects.filter(pk=1, newest_at=progress.newest_at).update(
        settled=progress.newest, newest=newest, newest_at=now
    )
    return progress.newest


def _stale(sessions: Iterable[UUID]) -> dict[UUID, int]:
    """Those that have other lines than when they were digested, with the number of their lines."""
    found = SessionEvent.objects.filter(session__in=sessions).order_by().values("session")
    now = {
        row["session"]: (row["number"], row["newest"])
        for row in found.annotate(number=Count("pk"), newest=Max("pk"))
    }
    digested = VoiceSession.objects.filter(pk__in=now).values_list("pk", "digested_lines", "digested_event")
    return {pk: now[pk][0] for pk, *then in digested if tuple(then) != now[pk]}
