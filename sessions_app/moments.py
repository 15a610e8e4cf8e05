"""Points and lengths of time, as staff read them."""

from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince, timeuntil

from sessions_app.models import VoiceSession
from sessions_app.transcript import clock


def moment(at: datetime) -> SafeString:
    """How long ago (or how soon), and when."""
    ago = timezone.now() - at
    if ago < timedelta():
        words = "within a minute" if -ago < timedelta(minutes=1) else f"in {timeuntil(at, depth=1)}"
    else:
        words = "just now" if ago < timedelta(minutes=1) else f"{timesince(at, depth=1)} ago"
    local = timezone.localtime(at)
    return format_html(
        '<time class="call-moment" datetime="{}"><span>{}</span> <span>{}</span></time>',
        local.isoformat(timespec="seconds"),
        words,
        date_format(local, "j M Y, H:i"),
    )


def length_of(session: VoiceSession) -> str | SafeString:
    if session.duration is None:
        return ""
    seconds = session.duration.total_seconds()
    if not session.is_live:
        return clock(seconds)
    return format_html(
        '<span class="nowrap">live, <span data-elapsed-ms="{}">{}</span></span>',
        int(seconds * 1000),
        clock(seconds),
    )
