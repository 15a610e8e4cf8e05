"""What staff write about a call: notes, labels, and the marks flagged and reviewed.

Forms post here and come back to the page, at the line that they were about. The page's script posts the same
forms, asks for plain text, and stays where it is.
"""

import re
from typing import NoReturn

from asgiref.sync import async_to_sync
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from sessions_app import log
from sessions_app.events import UNSTORABLE
from sessions_app.models import Label, Note, SessionEvent, VoiceSession
from sessions_app.staff import call_page, may

MARKS = ("flagged", "reviewed")


class RefusedError(Exception):
    """It cannot be done; the text is a sentence for staff."""


@require_POST
@call_page("annotate")
def note(request: HttpRequest, session: VoiceSession) -> HttpResponse:
    """Adds `text` to `line` ("browser-12"; left out: to the whole call), or deletes the note `delete`."""
    try:
        line = _delete_note(request, session) if "delete" in request.POST else _add_note(request, session)
    except RefusedError as trouble:
        return _answer(request, session, request.POST.get("line", ""), str(trouble))
    return _answer(request, session, line or "notes")


def _add_note(request: HttpRequest, session: VoiceSession) -> str:
    """Returns its line."""
    # Browsers send two characters for each end of a line, and let people write as many as if it were one.
    text = request.POST.get("text", "").replace("\r\n", "\n").strip()
    if not text:
        _refuse("A note needs some words. Nothing was saved.")
    if len(text) > Note.MAX_LENGTH:
        _refuse(f"A note has at most {Note.MAX_LENGTH:,} characters, this one has {len(text):,}. Shorten it.")
    if UNSTORABLE.search(text):
        _refuse("The note holds a character that cannot be stored. Write it anew without it.")
    line = request.POST.get("line", "")
    source, seq = _place(session, line) if line else ("", None)
    session.notes.create(source=source, seq=seq, text=text, by=_staff(request))
    return line


def _place(session: VoiceSession, line: str) -> tuple[str, int]:
    found = re.fullmatch(r"([a-z]{1,16})-([0-9]{1,9})", line)
    place = {"source": found[1], "seq": int(found[2])} if found else {}
    if not place or not SessionEvent.objects.filter(session=session, **place).exists():
        _refuse("This call has no such line. Reload the page, and write the note there.")
    assert found  # noqa: S101 - or it was refused
    return found[1], int(found[2])


def _delete_note(request: HttpRequest, session: VoiceSession) -> str:
    """Returns the line that it was about."""
    found = session.notes.filter(pk=_number(request.POST["delete"])).first()
    if found is None:
        return ""  # somebody else was faster
    if found.by_id != _staff(request).pk and not may(request.user, "delete"):
        raise PermissionDenied
    found.delete()
    return f"{found.source}-{found.seq}" if found.source else ""


@require_POST
@call_page("annotate")
def label(request: HttpRequest, session: VoiceSession) -> HttpResponse:
    """Puts the label `add` to the call, or takes `remove` away; without effect if that is so already."""
    if "remove" in request.POST:
        session.labellings.filter(label=_number(request.POST["remove"])).delete()
        return _answer(request, session, "review")
    found = Label.objects.filter(pk=_number(request.POST.get("add", ""))).first()
    if found is None:
        return _answer(request, session, "review", "There is no such label any more. Choose another.")
    session.labellings.get_or_create(label=found, defaults={"by": _staff(request)})
    return _answer(request, session, "review")


@require_POST
@call_page("annotate")
def mark(request: HttpRequest, session: VoiceSession) -> HttpResponse:
    """Puts a mark ("flagged", "reviewed") to the call: `set`; or takes it away: `clear`."""
    name = request.POST.get("clear") or request.POST.get("set", "")
    if name not in MARKS:
        return _answer(request, session, "review", f"A mark is one of {', '.join(MARKS)}.")
    is_set = getattr(session, f"{name}_at") is not None
    if "clear" in request.POST:
        session.mark(name, None, None)
    elif not is_set:  # who was first, stays
        session.mark(name, _staff(request), timezone.now())
    return _answer(request, session, "review")


def _staff(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101 - call_page lets in nobody else
    return request.user


def _refuse(sentence: str) -> NoReturn:
    raise RefusedError(sentence)


def _number(text: str) -> int:
    """A primary key; 0, which none is, for what is no number."""
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else 0


def _answer(request: HttpRequest, session: VoiceSession, anchor: str, trouble: str = "") -> HttpResponse:
    if not trouble:
        # Whoever has the call's page open, this reader's script included, looks for what is new.
        transaction.on_commit(lambda: async_to_sync(log.ring)(session.pk), robust=True)
    if request.headers.get("Accept") == "text/plain":
        return HttpResponse(trouble, content_type="text/plain", status=422 if trouble else 200)
    if trouble:
        messages.error(request, trouble)
    place = f"#{anchor}" if re.fullmatch(r"[a-z]+(-[0-9]+)?", anchor) else ""
    url = reverse("admin:sessions_app_voicesession_change", args=[session.pk])
    return HttpResponseRedirect(f"{url}{place}")


urls: list[URLPattern] = [
    path("<uuid:object_id>/change/note/", note, name="sessions_app_voicesession_note"),
    path("<uuid:object_id>/change/label/", label, name="sessions_app_voicesession_label"),
    path("<uuid:object_id>/change/mark/", mark, name="sessions_app_voicesession_mark"),
]
