"""Where a call's recording begins on the clock of its log.

The log's `at_ms` counts from `VoiceSession.created_at`, when the caller clicked, on the browser's monotonic
clock. The recording begins when the platform's record says that the call did: `started_at`, a time of day on
the platform's clock, which need not agree with ours. What the agent sends at once carries the platform's time
(`sent_at`) and gets the log's when it arrives, some milliseconds later. The median of the differences between
the two is the difference of the clocks, so a single late arrival does not move it.
"""

from datetime import datetime, timedelta
from statistics import median

from sessions_app.models import SessionEvent, VoiceSession
from sessions_app.record import moment

SENT_AT_ONCE = ("speech_started", "speech_stopped", "interruption", "tool_call")
"""Not session_started, which may wait for its caller, nor a text, whose `at_ms` is when it began."""

ENOUGH = 200
"""Events of a call that are looked at; the clocks' difference does not change while it lasts."""


def zero_ms(session: VoiceSession) -> int:
    """The `at_ms` at which the recording begins."""
    started_at = moment(session.platform_call.get("started_at"))
    if started_at is None:
        # Not compared yet: then the page's own report of the beginning must do.
        return max(0, _ms(session, session.started_at or session.created_at))
    return max(0, _ms(session, started_at) - _clocks_apart_ms(session))


def _clocks_apart_ms(session: VoiceSession) -> int:
    """By how much the platform's clock is ahead of the log's; 0 if nothing tells."""
    events = session.events.filter(
        source=SessionEvent.Source.BROWSER, type__in=SENT_AT_ONCE, sent_at__isnull=False
    ).order_by("seq")
    apart = [
        _ms(session, sent_at) - at_ms
        for sent_at, at_ms in events.values_list("sent_at", "at_ms")[:ENOUGH]
        if sent_at is not None
    ]
    return round(median(apart)) if apart else 0


def _ms(session: VoiceSession, at: datetime) -> int:
    return round((at - session.created_at) / timedelta(milliseconds=1))
