"""Taking calls away: one call, or whatever is chosen in the list. docs/export.md describes the files.

However many calls there are, some of them are in memory at a time; and no connection to the database is held
while somebody's network takes its time.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.exceptions import BadRequest
from django.db.models import Q, QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    HttpResponseBase,
    QueryDict,
    StreamingHttpResponse,
)
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from sessions_app import document, formats, listing
from sessions_app.access import log_access
from sessions_app.filters import Filters
from sessions_app.models import VoiceSession
from sessions_app.shares import lines_of, shares
from sessions_app.staff import call_page, give_back, staff_page

CALLS, LINES = 100, 2000
"""That are in memory at once: so many calls, and so many lines of them, or one call that has more."""

PIECE = 64 * 1024
"""Bytes that are handed over at once."""


@dataclass(frozen=True)
class Format:
    name: str
    content_type: str
    write: Callable[[VoiceSession], bytes]
    head: bytes = b""
    of_many: str = ""
    """The ending of a file that holds many calls; "" where there is no such file."""


FORMATS = {
    form.name: form
    for form in (
        Format("json", "application/json", document.write, of_many="jsonl"),
        Format(
            "csv",
            "text/csv; charset=utf-8",
            lambda session: formats.csv_rows(session).encode(),
            head=formats.HEAD.encode(),
            of_many="csv",
        ),
        Format("vtt", "text/vtt; charset=utf-8", lambda session: formats.vtt(session).encode()),
        Format("txt", "text/plain; charset=utf-8", lambda session: formats.text(session).encode()),
    )
}


def batches(sessions: QuerySet[VoiceSession]) -> Iterator[list[VoiceSession]]:
    """All of `sessions`, the newest first, loaded (see document.loaded) some at a time.

    Each time anew from the last one on: a cursor of the database would be held for as long as a download
    takes, and what comes meanwhile is newer.
    """
    place = Q()
    while True:
        keys = list(
            sessions.filter(place).order_by("-created_at", "-pk").values_list("pk", "created_at")[:CALLS]
        )
        if not keys:
            return
        last, at = keys[-1]
        # The first condition is for the index.
        place = Q(created_at__lte=at) & (Q(created_at__lt=at) | Q(pk__lt=last))
        for ids in shares(lines_of([pk for pk, _ in keys]), LINES):
            found = document.loaded(VoiceSession.objects.filter(pk__in=ids))
            calls = list(found.order_by("-created_at", "-pk"))
            give_back()
            yield calls
            for call in calls:
                # Rows and their call hold each other, and would wait for the garbage collector.
                call._prefetched_objects_cache.clear()  # type: ignore[attr-defined]


def pieces(sessions: QuerySet[VoiceSession], form: Format) -> Iterator[bytes]:
    """The file, bit by bit."""
    waiting = bytearray(form.head)
    for calls in batches(sessions):
        for call in calls:
            waiting += form.write(call)
            while len(waiting) >= PIECE:
                yield bytes(waiting[:PIECE])
                del waiting[:PIECE]
    yield bytes(waiting)


class Stream(StreamingHttpResponse):
    """Made in a thread where there is an event loop: Django would read all of it into memory first.

    When the reader has left, Django closes it, and nothing more is read from the database. What goes wrong in
    the middle is raised, and the server resets the connection: the file must not look complete.
    """

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = super().__iter__()
        try:
            while part := await sync_to_async(lambda: next(parts, b""))():
                yield part
        finally:
            # Django does so at the end of a request, but not of one that fails.
            await sync_to_async(give_back)()


def attachment(response: HttpResponseBase, name: str) -> HttpResponseBase:
    """As a file to keep. Whatever stands in it, no browser shows it as a page of this site."""
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["X-Content-Type-Options"] = "nosniff"
    return response


@require_GET
@call_page("export")
def one(request: HttpRequest, session: VoiceSession, name: str) -> HttpResponseBase:
    """One call, in the format `name`."""
    if name not in FORMATS:
        raise Http404(f"Calls are exported as {', '.join(FORMATS)}.")
    form = FORMATS[name]
    call = get_object_or_404(document.loaded(VoiceSession.objects.all()), pk=session.pk)
    body = form.head + form.write(call)
    log_access(request.user, "export", session.pk, format=name)
    return attachment(HttpResponse(body, content_type=form.content_type), f"call-{session.pk}.{name}")


@require_http_methods(["GET", "POST"])
@staff_page("export")
def many(request: HttpRequest) -> HttpResponseBase:
    """The calls that are chosen in the list (see listing.selected), in the format `format`."""
    data = request.POST if request.method == "POST" else request.GET
    form = FORMATS.get(data.get("format", ""))
    if form is None or not form.of_many:
        offered = " or ".join(form.name for form in FORMATS.values() if form.of_many)
        return _refusal(f"Several calls are exported as {offered}; the other formats are for one call.")
    try:
        sessions = listing.selected(request)
    except BadRequest as error:
        return _refusal(str(error))
    number = sessions.count()
    if not number:
        return _refusal("No call is chosen, so there is nothing to export.")
    log_access(request.user, "export", None, format=form.name, number=number, **_chosen(data))
    content_type = "application/x-ndjson" if form.name == "json" else form.content_type
    response = Stream(pieces(sessions, form), content_type=content_type)
    now = timezone.localtime()
    return attachment(response, f"calls-{now:%Y-%m-%d-%H%M%S}.{form.of_many}")


def _chosen(data: QueryDict) -> dict[str, Any]:
    """For the access log: calls by their ids, or by the list's filters."""
    ids = data.getlist("id")
    if ids and data.get("all") != "1":
        return {"ids": [str(UUID(pk)) for pk in ids]}
    return {"filters": Filters.read(data).query_string}


def _refusal(sentence: str) -> HttpResponse:
    return HttpResponseBadRequest(sentence, content_type="text/plain; charset=utf-8")


urls: list[URLPattern] = [
    path("export/", many, name="sessions_app_voicesession_export"),
    path("<uuid:object_id>/export/<str:name>/", one, name="sessions_app_voicesession_export_one"),
]
