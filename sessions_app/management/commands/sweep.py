from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils import timezone

from sessions_app import digest, erase, log, overview, reconcile
from sessions_app.models import Day, VoiceSession

EndReason = VoiceSession.EndReason

DIGEST_S, DIGEST_CALLS = 20.0, 5000
"""What one run spends on figures and words at most."""

RECOUNT_S = 10.0
"""On the overview's days. After an upgrade there are many; their readers need not wait then."""

PROOFS = {
    "complete": "complete",
    "recovered": "recovered",
    "differs": "differing",
    "unverified": "unverified",
    "later": "to ask again",
}
"""Of the calls that were compared in this run."""


class Command(BaseCommand):
    help = (
        "Ends the calls whose page went away, and those that never began; forgets visitors whose cookie has "
        "expired; deletes calls whose time is over (RETENTION_DAYS); works out the figures of the others; "
        "compares ended calls with the platform's own record of them. Run it every minute."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        calls = VoiceSession.objects
        abandoned = end_each(
            lambda: calls.abandoned(now), EndReason.ABANDONED, lambda call: call.last_seen_at
        )
        not_started = end_each(lambda: calls.not_started(now), EndReason.NOT_STARTED, lambda call: now)
        import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
        deleted = erase.expire(timezone.now())
        digest.catch_up(DIGEST_S, DIGEST_CALLS)
        overview.recount(Day.objects.filter(is_stale=True).values_list("day", flat=True), RECOUNT_S)
        erase.wipe(timezone.now())
        # Last: a platform that is slow to answer holds up nothing else.
        proofs = reconcile.prove_due(timezone.now())
        counts = [f"{abandoned} abandoned", f"{not_started} not started"]
        counts += [f"{proofs[proof]} {word}" for proof, word in PROOFS.items()]
        if settings.RETENTION_DAYS is not None:
            counts.append(f"{deleted} deleted")
        self.stdout.write(", ".join(counts))


def end_each(stale: Callable[[], Any], reason: EndReason, moment: Callable[[VoiceSession], datetime]) -> int:
    """Ends each of the calls; `moment` tells when it is taken to have ended."""
    count = 0
    for pk in stale().values_list("pk", flat=True):
        with transaction.atomic():
            # Asked again under the lock: the page may have been heard of in the meantime.
            call = stale().select_for_update().filter(pk=pk).first()
            if call is not None:
                log.end(call, reason, moment(call))
                count += 1
    return count
