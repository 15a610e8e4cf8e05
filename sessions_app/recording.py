"""The platform's recording of a call, passed on to staff who may listen, and to nobody else.

It goes through this site piece by piece, as the key that opens it must not reach a browser, and is not stored
here, unless KEEP_RECORDINGS says so: then the first who listens leaves a copy, until the call is deleted.
"""

import asyncio
import logging
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from sessions_app import vatel
from sessions_app.access import Access, log_access
from sessions_app.models import VoiceSession
from sessions_app.playhead import zero_ms
from sessions_app.reconcile import TROUBLES, NotProvableError, fetch
from sessions_app.sound import Sound, Span, from_copy, from_platform
from sessions_app.staff import call_page, give_back, may

logger = logging.getLogger(__name__)

STREAMS = 8
"""Recordings that are read from the platform at once, in this process."""
QUEUE_S = 5.0
"""Parts are short, so whoever finds no place has one soon."""
PART_S = 30.0
"""For one part; a platform that does not know Range sends all that is before it, too."""
WHOLE_S = 1800.0
"""For all of it in one piece, which a browser may be slow to take, and for a copy."""

ONE_LISTENING = timedelta(hours=12)
"""How long a page's player may be used under one row of the access log."""

SENTENCES = TROUBLES | {
    vatel.VatelCallUnknownError: "The platform has no recording of this call. It may come some minutes after "
    "the end of the call; and platforms delete recordings after a time.",
    vatel.VatelBadAnswerError: "The platform's answer is not a recording.",
}

_places = threading.BoundedSemaphore(STREAMS)
_readers = ThreadPoolExecutor(STREAMS, thread_name_prefix="recording")


class NotPlayableError(Exception):
    """The recording cannot be played now; the text is a sentence for staff."""

    def __init__(self, sentence: str, status: int = 404) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Player:
    """What the page of a call needs to play its recording."""

    url: str
    zero_ms: int
    """The `at_ms` of the log at which the recording begins."""


def player(user: AbstractBaseUser | AnonymousUser, session: VoiceSession) -> Player | None:
    """None: this call has no recording, or not for this user."""
    if session.state != VoiceSession.State.ENDED or not session.call_id or not may(user, "view", "listen"):
        return None
    url = reverse("admin:sessions_app_voicesession_recording", args=[session.pk])
    # The name of one player on one page: all that it fetches is one listening.
    return Player(f"{url}?player={secrets.token_urlsafe(9)}", zero_ms(session))


@require_safe
@call_page("listen")
def recording(request: HttpRequest, session: VoiceSession) -> HttpResponseBase:
    """The recording, or the part that a Range header asks for. Errors are sentences in plain text."""
    try:
        response = _answer(request, session)
    except NotPlayableError as trouble:
        response = _sentence(str(trouble), trouble.status)
    except NotProvableError as trouble:
        response = _sentence(str(trouble), 503 if trouble.is_down else 404)
    except vatel.VatelError as error:
        logger.log(error.level, "recording of session %s: %s: %s", session.pk, error.code, error)
        status = 404 if isinstance(error, vatel.VatelCallUnknownError) else error.status
        response = _sentence(SENTENCES[type(error)], status)
    response["Cache-Control"] = "no-store"
    return response


urls: list[URLPattern] = [
    path("<uuid:object_id>/change/recording/", recording, name="sessions_app_voicesession_recording")
]


def _answer(request: HttpRequest, session: VoiceSession) -> HttpResponseBase:
    """Raises NotPlayableError, NotProvableError and VatelError."""
    span = Span.read(request.headers.get("Range", ""))
    sound = _open(session, span)
    try:
        response = (
            _whole(request, sound) if sound.total is None or span is None else _part(request, sound, span)
        )
    except BaseException:
        sound.close()
        raise
    if not response.streaming:
        sound.close()
    if response.status_code == 416:
        return response
    response["Content-Type"] = sound.kind
    response["Content-Disposition"] = f'inline; filename="call-{session.pk}.wav"'
    if sound.total is not None:
        response["Accept-Ranges"] = "bytes"
    if request.method == "GET":
        _log_listening(request, session)
        give_back()
        if settings.KEEP_RECORDINGS:
            _keep(session)
    return response


def _part(request: HttpRequest, sound: Sound, span: Span) -> HttpResponse:
    """Read before it is answered: a platform that fails half-way is then an error that can be told."""
    assert sound.total is not None  # noqa: S101 - the caller looks
    part = span.within(sound.total)
    if not part:
        response = _sentence("The recording is shorter than that.", 416)
        response["Content-Range"] = f"bytes */{sound.total}"
        return response
    response = HttpResponse(b"" if request.method == "HEAD" else sound.read(part, PART_S), status=206)
    response["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{sound.total}"
    response["Content-Length"] = str(len(part))
    return response


def _whole(request: HttpRequest, sound: Sound) -> HttpResponseBase:
    response: HttpResponseBase
    if request.method == "HEAD":
        response = HttpResponse()
    # Django reads an iterator of the wrong sort to its end, into memory, before it sends any of it.
    elif isinstance(request, ASGIRequest):
        response = StreamingHttpResponse(AsyncStream(sound))
    else:
        response = StreamingHttpResponse(Stream(sound))
    if sound.total is not None:
        response["Content-Length"] = str(sound.total)
    return response


class Stream:
    """A whole recording on its way to a browser. What breaks off raises VatelError: the answer has begun, and
    the server can only reset the connection, so that it does not look complete."""

    def __init__(self, sound: Sound) -> None:
        self._sound = sound

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._sound.pieces(WHOLE_S)
        except vatel.VatelError as error:
            logger.log(error.level, "a recording broke off: %s: %s", error.code, error)
            raise
        finally:
            self.close()

    def close(self) -> None:
        self._sound.close()


class AsyncStream:
    """The same for an event loop: the platform's network is waited for in a thread."""

    def __init__(self, sound: Sound) -> None:
        self._stream = Stream(sound)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        pieces = iter(self._stream)
        try:
            while piece := await loop.run_in_executor(_readers, next, pieces, b""):
                yield piece
        finally:
            # The browser may have gone while a thread reads, and closing waits for that.
            _readers.submit(self._stream.close)

    def close(self) -> None:
        self._stream.close()


def _open(session: VoiceSession, span: Span | None) -> Sound:
    """Raises NotPlayableError, NotProvableError and VatelError."""
    if session.state != VoiceSession.State.ENDED:
        raise NotPlayableError("The call is not over yet; its recording comes afterwards.")
    if not session.call_id:
        raise NotPlayableError(f"There is no recording. {session.no_call_because}")
    with suppress(FileNotFoundError):
        return from_copy(copy_of(session.pk), span)
    if not session.platform_call:
        # A browser has named the call, and not yet been proved right: it may be somebody else's.
        give_back()
        fetch(session)
    give_back()
    if not _places.acquire(timeout=QUEUE_S):
        raise NotPlayableError(f"{STREAMS} recordings are being played already. Try again in a minute.", 503)
    return from_platform(session.call_id, span, _places.release)


def _log_listening(request: HttpRequest, session: VoiceSession) -> None:
    """One row for each player of each page that is used, whichever parts it fetches; a request that names no
    player, as by an address that was copied, has a row of its own. The name is no secret and no proof: who
    uses one again has a row that says so, and after some hours gets another."""
    player = request.GET.get("player", "")
    if re.fullmatch(r"[\w-]{1,16}", player):
        rows = Access.objects.filter(session_id=session.pk, user_id=request.user.pk, details__player=player)
        if rows.filter(action=Access.Action.LISTEN, at__gt=timezone.now() - ONE_LISTENING).exists():
            return
        log_access(request.user, Access.Action.LISTEN, session.pk, player=player)
    else:
        log_access(request.user, Access.Action.LISTEN, session.pk)


def _sentence(text: str, status: int) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")


# Copies


def copy_of(session_id: UUID) -> Path:
    """Where the copy of a call's recording is, or would be."""
    return Path(settings.RECORDINGS) / f"{session_id}.wav"


def forget(session_id: UUID) -> None:
    """Deletes the copy of a call's recording, if there is one. Call it when the call itself is deleted and
    committed: a copy that is being made looks for its call at its end. Raises OSError."""
    for file in (copy_of(session_id), _unfinished(session_id)):
        file.unlink(missing_ok=True)


def _unfinished(session_id: UUID) -> Path:
    return copy_of(session_id).with_suffix(".part")


def _keep(session: VoiceSession) -> None:
    """Has a copy made, in a thread, unless there is one, or too much else is to be done."""
    if copy_of(session.pk).exists() or not _places.acquire(blocking=False):
        return
    threading.Thread(target=_copy, args=(session.pk, session.call_id), name="copy", daemon=True).start()


def _copy(session_id: UUID, call_id: str) -> None:
    part = _unfinished(session_id)
    try:
        sound = from_platform(call_id, None, _places.release)
        try:
            if not sound.kind.endswith("wav"):
                raise vatel.VatelBadAnswerError(f"a recording that is {sound.kind!r}, and no WAV")
            _write(sound, part)
        finally:
            sound.close()
        # Whoever forgets it meanwhile takes the unfinished file away, and this finds none.
        part.rename(copy_of(session_id))
        if not VoiceSession.objects.filter(pk=session_id).exists():
            forget(session_id)
    except FileExistsError:
        pass  # another thread is at it
    except (vatel.VatelError, OSError) as error:
        part.unlink(missing_ok=True)
        logger.warning("recording of session %s: no copy was kept: %s", session_id, error)
    finally:
        connection.close()


def _write(sound: Sound, part: Path) -> None:
    """Raises FileExistsError, OSError and VatelError."""
    part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if time.time() - part.stat().st_mtime > WHOLE_S:
            part.unlink()  # of a process that died over it
    with part.open("xb") as file:
        part.chmod(0o600)
        file.writelines(sound.pieces(WHOLE_S))
