"""Calls that are taken out for good: by somebody of staff, or by the site when their time is over.

All of a call goes: what was said, tools, bookings, notes, labels, the words that search knows, the copy of
its recording. What stays is a Tombstone, and the access log. Calls that are not over, and those that staff
hold, stay. A page that still reports into a deleted call is told `not_yours` (relay.py, writer.py, views.py).
"""

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import BadRequest
from django.db import OperationalError, connection, transaction
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from sessions_app import listing, recording, search
from sessions_app.access import Access, log_access
from sessions_app.models import Day, Tombstone, VoiceSession
from sessions_app.shares import lines_of, shares
from sessions_app.staff import call_page, staff_page

logger = logging.getLogger(__name__)

User = AbstractBaseUser | AnonymousUser | None
"""None: the site itself."""

ERASABLE = Q(state=VoiceSession.State.ENDED, held_at=None)

BATCH, LINES = 10, 5000
"""Calls of one transaction, for which the log's writer has to wait: so many, of so many lines, or one call
that has more."""

LIMIT = 500
"""Calls that are deleted at a click, and in one run of `sweep`: what is done in some seconds."""

WIPE_EVERY = timedelta(hours=1)
LARGE = 256 * 1024 * 1024
"""A file of so many bytes, which takes seconds to rewrite, is rewritten at night only."""
NIGHT = range(2, 5)
"""Hours, in the site's time zone."""

MAX_WHY = 255


class NotErasableError(Exception):
    """The call stays; the text is a sentence for staff."""


def erase(session: VoiceSession, by: User, why: str) -> None:
    """Deletes a call. Raises NotErasableError, with nothing done."""
    if not _erase([session.pk], by, why):
        found = VoiceSession.objects.filter(pk=session.pk).first()
        raise NotErasableError(kept_because(found) if found else "This call was deleted already.")


def erase_all(ids: Sequence[UUID], by: User, why: str) -> int:
    """Deletes calls, some at a time; those that cannot be deleted stay. Returns how many it has deleted."""
    return sum(_erase(some, by, why) for some in _batches(ids))


def _batches(ids: Sequence[UUID]) -> Iterator[list[UUID]]:
    for place in range(0, len(ids), BATCH):
        yield from shares(lines_of(ids[place : place + BATCH]), LINES)


def kept_because(session: VoiceSession) -> str:
    """Why a call cannot be deleted now; "" if it can."""
    if session.held_at:
        return f"This call is held: {session.held_because} Release it before you delete it."
    if session.state != VoiceSession.State.ENDED:
        return "This call is not over yet. It can be deleted when it is."
    return ""


def _erase(ids: Sequence[UUID], by: User, why: str) -> int:
    with transaction.atomic():
        # Locked: a line that the writer is about to store waits, and then finds that its call is gone.
        found = VoiceSession.objects.select_for_update().filter(ERASABLE, pk__in=ids)
        calls = list(found.order_by("pk").only("created_at", "started_at", "ended_at", "agent_id"))
        gone = [call.pk for call in calls]
        search.forget(gone)
        Day.objects.expire((call.created_at, call.agent_id) for call in calls)
        for call in calls:
            Tombstone.objects.create(
                session_id=call.pk,
                created_at=call.created_at,
                started_at=call.started_at,
                ended_at=call.ended_at,
                who=by.get_username() if by else "",
                why=why[:MAX_WHY],
            )
            log_access(by, Access.Action.DELETE, call.pk, why=why[:MAX_WHY])
        VoiceSession.objects.filter(pk__in=gone).delete()
        transaction.on_commit(lambda: _forget_recordings(gone), robust=True)  # what it leaves, `wipe` finds
    return len(gone)


def _forget_recordings(ids: Sequence[UUID]) -> None:
    for session_id in ids:
        recording.forget(session_id)


def expire(now: datetime, *, limit: int = LIMIT, budget_s: float = 20) -> int:
    """Deletes calls that ended more than RETENTION_DAYS ago, the oldest first. Returns how many.

    What one run does not come to, the next does.
    """
    if settings.RETENTION_DAYS is None:
        return 0
    before = now - timedelta(days=settings.RETENTION_DAYS)
    # created_at, which comes first, is there for the index.
    old = VoiceSession.objects.filter(ERASABLE, created_at__lt=before, ended_at__lt=before)
    old = old.order_by("created_at", "pk")
    deadline, count = time.monotonic() + budget_s, 0
    for some in _batches(list(old.values_list("pk", flat=True)[:limit])):
        if time.monotonic() >= deadline:
            break
        count += _erase(some, None, f"It was kept for {settings.RETENTION_DAYS} days.")
    return count


def wipe(now: datetime) -> bool:
    """Takes away what deleted calls have left outside of their rows; False: some of it is left for later. Not
    inside a transaction.

    Copies of recordings whose deletion failed. On SQLite, what is left of them in the file: it overwrites
    what is deleted (`secure_delete`), but not the copies that it has left behind when it moved rows from
    page to page, nor old pages in its log of the last changes. So the file is rewritten, which holds up the
    log for as long as that takes: at most once in WIPE_EVERY. PostgreSQL gives the room free for other rows
    by itself.
    """
    for file in Path(settings.RECORDINGS).glob("*-*.*"):
        with suppress(ValueError):  # a file of somebody else's
            session_id = UUID(file.stem)
            if Tombstone.objects.filter(pk=session_id).exists():
                recording.forget(session_id)
    if connection.vendor != "sqlite":
        return True
    left = Tombstone.objects.filter(wiped_at=None, deleted_at__lte=now)
    if not left.exists():
        return True
    if Tombstone.objects.filter(wiped_at__gt=now - WIPE_EVERY).exists():
        return False
    file = Path(connection.settings_dict["NAME"])
    if file.exists() and file.stat().st_size > LARGE and timezone.localtime(now).hour not in NIGHT:
        return False
    if not search.compact() or not _has_room(file):
        return False
    if is_wiped := _rewrite():
        left.update(wiped_at=now)
    return is_wiped


def _has_room(file: Path) -> bool:
    """For the copy that SQLite makes of the file, and for the log in which it puts the copy in its place. To
    find that out by trying would fill the disk each minute, where the log is being written."""
    needed = sum(each.stat().st_size for each in (file, file.with_name(f"{file.name}-wal")) if each.exists())
    if shutil.disk_usage(file.parent).free > 2 * needed:
        return True
    logger.warning(
        "the disk has no room to clear the database's file of deleted calls: it takes %d bytes", 2 * needed
    )
    return False


def _rewrite() -> bool:
    """False: others were at work."""
    with connection.cursor() as cursor:
        try:
            cursor.execute("VACUUM")
            is_busy, _, _ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except OperationalError as error:
            logger.warning("the database's file cannot be cleared of deleted calls now: %s", error)
            return False
    return not is_busy


@require_http_methods(["GET", "HEAD", "POST"])
@call_page("delete")
def delete(request: HttpRequest, session: VoiceSession) -> HttpResponse:
    """Says what would go, and why it cannot; with a reason, posted, deletes the call."""
    trouble = kept_because(session)
    if request.method == "POST" and not trouble:
        why, trouble = read_why(request)
        if not trouble:
            try:
                erase(session, request.user, why)
            except NotErasableError as error:
                trouble = str(error)
            else:
                messages.success(request, f"The call of {session} was deleted.")
                return HttpResponseRedirect(reverse("admin:sessions_app_voicesession_changelist"))
    counts = [
        (session.events.count(), "lines of its log"),
        (session.tool_runs.count(), "runs of tools"),
        (session.bookings.count(), "bookings"),
        (session.notes.count(), "notes"),
        (session.labellings.count(), "labels"),
    ]
    context = {
        "title": "Delete this call?",
        "session": session,
        "counts": [(number, words) for number, words in counts if number],
        "has_copy": recording.copy_of(session.pk).exists(),
        "kept_because": kept_because(session),
        "trouble": trouble,
        "cancel_url": reverse("admin:sessions_app_voicesession_change", args=[session.pk]),
    }
    return _page(request, "delete.html", context)


@require_POST
@staff_page("delete")
def delete_selected(request: HttpRequest) -> HttpResponse:
    """Asks whether to delete the calls that are chosen in the list (see listing.selected); with a reason and
    `ids`, those that it has asked about, deletes them."""
    trouble = ""
    if "ids" in request.POST:
        ids = read_ids(request.POST["ids"])
        why, trouble = read_why(request)
        if not trouble:
            number = erase_all(ids, request.user, why)
            tell = messages.success if number == len(ids) else messages.warning
            tell(request, f"{counted(number)} deleted.{left(len(ids) - number)}")
            return HttpResponseRedirect(reverse("admin:sessions_app_voicesession_changelist"))
        chosen: QuerySet[VoiceSession] = VoiceSession.objects.filter(pk__in=ids)
    else:
        chosen = listing.selected(request)
    found = list(chosen.order_by("created_at", "pk").values_list("pk", "state", "held_at")[: LIMIT + 1])
    ids = [pk for pk, state, held_at in found if state == VoiceSession.State.ENDED and held_at is None]
    context = {
        "title": "Delete calls?",
        "limit": LIMIT,
        "is_too_many": len(found) > LIMIT,
        "ids": ",".join(map(str, ids)),
        "number": len(ids),
        "chosen": len(found),
        "stays": [
            *stay(sum(held_at is not None for _, _, held_at in found), "held by staff"),
            *stay(sum(state != VoiceSession.State.ENDED for _, state, _ in found), "not over yet"),
        ],
        "trouble": trouble,
        "cancel_url": reverse("admin:sessions_app_voicesession_changelist"),
    }
    return _page(request, "delete_selected.html", context)


@require_POST
@call_page("hold")
def hold(request: HttpRequest, session: VoiceSession) -> HttpResponse:
    """Keeps a call from deletion (`act` is hold), or gives it free (release), with a reason."""
    act = request.POST.get("act")
    if act not in (Access.Action.HOLD, Access.Action.RELEASE):
        raise BadRequest("act must be hold or release.")
    why, trouble = read_why(request)
    if trouble:
        messages.error(request, trouble)
    else:
        _hold(session, request.user, act, why)
    return HttpResponseRedirect(reverse("admin:sessions_app_voicesession_change", args=[session.pk]))


def _hold(session: VoiceSession, by: AbstractBaseUser | AnonymousUser, act: str, why: str) -> None:
    is_hold = act == Access.Action.HOLD
    try:
        with transaction.atomic():
            session.lock()  # whoever deletes it is first, or waits
            if is_hold == (session.held_at is not None):
                return  # two clicks, or two people: the first reason counts
            log_access(by, act, session.pk, why=why)
            session.held_because = why
            session.mark("held", by if isinstance(by, AbstractBaseUser) else None, _now_if(is_hold))
    except VoiceSession.DoesNotExist:
        raise Http404("This call was deleted.") from None


def _now_if(is_set: bool) -> datetime | None:
    return timezone.now() if is_set else None


def read_why(request: HttpRequest) -> tuple[str, str]:
    """The reason that a form gives, and what is wrong with it, as a sentence."""
    why = " ".join(request.POST.get("why", "").replace("\0", "").split())
    if not why:
        return "", "Give a reason. It stays in the access log."
    if len(why) > MAX_WHY:
        return "", f"Give a reason of at most {MAX_WHY} characters; this one has {len(why)}."
    return why, ""


def read_ids(text: str) -> list[UUID]:
    """Raises BadRequest."""
    try:
        ids = [UUID(word) for word in text.split(",")]
    except ValueError:
        raise BadRequest("ids must be numbers of calls, with commas.") from None
    if len(ids) > LIMIT:
        raise BadRequest(f"At most {LIMIT} calls can be deleted at once.")
    return ids


def counted(number: int) -> str:
    return "1 call was" if number == 1 else f"{number} calls were"


def left(number: int) -> str:
    return f" {number} stayed: held meanwhile, or deleted by somebody else." if number else ""


def stay(number: int, why: str) -> list[str]:
    if not number:
        return []
    return [f"One call stays: it is {why}." if number == 1 else f"{number} calls stay: they are {why}."]


def _page(request: HttpRequest, template: str, context: dict[str, object]) -> HttpResponse:
    whole = {**admin.site.each_context(request), "max_why": MAX_WHY, **context}
    name = f"admin/sessions_app/voicesession/{template}"
    status = 422 if request.method == "POST" and context["trouble"] else 200
    return TemplateResponse(request, name, whole, status=status)


urls: list[URLPattern] = [
    path("delete/", delete_selected, name="sessions_app_voicesession_delete_selected"),
    path("<uuid:object_id>/delete/", delete, name="sessions_app_voicesession_delete"),
    path("<uuid:object_id>/hold/", hold, name="sessions_app_voicesession_hold"),
]
