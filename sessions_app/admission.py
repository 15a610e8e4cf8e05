"""Who may have another call: caps on calls at once and on starts in an hour, of visitor, address, site."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import salted_hmac

from sessions_app.situations import SITUATIONS

if TYPE_CHECKING:
    from sessions_app.models import VoiceSessionQuerySet

HOUR = timedelta(hours=1)

RETRY_S = 30
"""When to ask again for a place that somebody else's call has: nobody knows how long that will be."""

PLACES_LOCK = 0x766F696365
"""The advisory lock of whoever takes a place; any number that nothing else in this database uses."""


class TooManyError(Exception):
    """No place for another call. `code` and `sentence` are for the visitor, its text for the operator."""

    def __init__(self, code: str, cap: str, retry_after_s: int, sentence: str = "") -> None:
        super().__init__(f"{cap} is {getattr(settings, cap)}")
        self.code = code
        self.retry_after_s = retry_after_s
        self.sentence = sentence or SITUATIONS[code].sentence


@dataclass(frozen=True)
class Caller:
    """Who wants to call, as far as the site knows."""

    visitor: str
    user_id: int | None
    address: str
    """See address_of."""


@contextmanager
def place(sessions: VoiceSessionQuerySet, caller: Caller) -> Iterator[datetime]:
    """A transaction that may add one call of this caller, and the time by which that was decided.

    Raises TooManyError. Counting and taking exclude each other: of two clicks at once, one gets the last
    place.
    """
    with transaction.atomic():
        if connection.vendor == "postgresql":  # SQLite's transactions are IMMEDIATE: one at a time
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [PLACES_LOCK])
        now = timezone.now()
        require_place(sessions, caller, now)
        yield now


def require_place(sessions: VoiceSessionQuerySet, caller: Caller, at: datetime) -> None:
    """Raises TooManyError."""
    own = Q(visitor=caller.visitor)
    if caller.user_id is not None:
        own |= Q(user_id=caller.user_id)  # in whatever browser
    for calls, of, per in (
        (sessions.filter(own), "_of_visitor", "_PER_VISITOR"),
        (sessions.filter(address=caller.address), "_of_address", "_PER_ADDRESS"),
        (sessions.all(), "", ""),
    ):
        cap = f"MAX_CALLS{per}"
        if calls.live(at).count() >= getattr(settings, cap):
            raise TooManyError(f"too_many_calls{of}", cap, RETRY_S)
        cap = f"MAX_STARTS{per}"
        most = getattr(settings, cap)
        starts = calls.filter(created_at__gt=at - HOUR).order_by("-created_at")
        # When this one is an hour old, fewer than the cap are left.
        decisive = starts.values_list("created_at", flat=True)[most - 1 : most].first()
        if decisive is not None:
            # Not more than an hour, should the clock have been set back.
            wait_s = min(3600, math.ceil((decisive + HOUR - at).total_seconds()))
            raise TooManyError(f"too_many_starts{of}", cap, wait_s, f"Try again in {in_words(wait_s)}.")


def in_words(seconds: int) -> str:
    """For people who wait: whole minutes, up to an hour."""
    minutes = math.ceil(seconds / 60)
    if minutes >= 60:
        return "an hour"
    return "a minute" if minutes <= 1 else f"{minutes} minutes"


def address_of(request: HttpRequest) -> str:
    """The network that a request comes from, as 32 hex digits that tell nobody which it is.

    Behind a trusted proxy it is the last entry of X-Forwarded-For: those before it are the client's word.
    """
    text = request.META.get("REMOTE_ADDR", "")
    if settings.TRUST_PROXY:
        text = request.headers.get("X-Forwarded-For", text).rpartition(",")[2]
    return salted_hmac(__name__, network_of(text.strip()), algorithm="sha256").hexdigest()[:32]


def network_of(text: str) -> str:
    """Of an address, with or without a port: what one household has. "" if it is no address."""
    for address in (text, text.rpartition(":")[0].strip("[]"), text.strip("[]")):
        try:
            known = ip_address(address)
        except ValueError:
            continue
        if not isinstance(known, IPv6Address):
            return str(known)
        # Providers give each customer a /64 at least, and a computer takes from it as many as it likes.
        return str(known.ipv4_mapped) if known.ipv4_mapped else f"{int(known) >> 64:x}"
    return ""
