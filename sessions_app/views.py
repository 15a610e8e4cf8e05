"""Pages, and what the talk page asks for: the credential of a call, and a second way into its log."""

import logging
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.csrf import csrf_failure
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_POST, require_safe

from sessions_app import events, log, vatel
from sessions_app.models import TooManyCallsError, VoiceSession

logger = logging.getLogger(__name__)

MAX_MINT_BYTES = 16 * 1024
MAX_EVENTS_BYTES = 512 * 1024
MAX_EVENTS = 1000


class BadRequestError(Exception):
    """What was asked cannot be done; `code` and the text are for the visitor."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@never_cache
@require_safe
@ensure_csrf_cookie
def talk(request: HttpRequest) -> HttpResponse:
    visitor_of(request)
    agents = [{"id": str(agent_id), "name": name} for agent_id, name in settings.VATEL_AGENTS.items()]
    return render(request, "sessions_app/talk.html", {"agents": agents})


def visitor_of(request: HttpRequest) -> str:
    """Who this browser is, as far as the site knows: a random name in its session. Given on first sight."""
    visitor = request.session.get("visitor")
    if not visitor:
        visitor = request.session["visitor"] = uuid4().hex
    return str(visitor)


@never_cache
@require_POST
def start_session(request: HttpRequest) -> JsonResponse:
    """Mints the credential of a call; the session exists in the database before the credential leaves."""
    try:
        agent_id = wanted_agent(request)
        session = VoiceSession.objects.open(
            visitor=visitor_of(request),
            agent_id=agent_id,
            agent_name=settings.VATEL_AGENTS[agent_id],
            user_id=request.user.pk,
        )
    except BadRequestError as error:
        return refusal(400, error.code, str(error))
    except TooManyCallsError as error:
        logger.warning("no place for another call: %s", error)
        return refusal(429, "too_many_calls", "End another call, or wait a minute, then try again.")
    try:
        credential = vatel.platform().generate_session_token(agent_id)
        require_known_origin(credential.url)
    except vatel.VatelError as error:
        logger.log(error.level, "session %s, agent %s: %s: %s", session.pk, agent_id, error.code, error)
        with transaction.atomic():
            log.end(session, VoiceSession.EndReason.FAILED, timezone.now())
        return refusal(error.status, error.code, error.sentence)
    session.set_credential(credential.room, credential.identity)
    return JsonResponse(
        {
            "session": str(session.pk),
            "relay_url": f"/ws/sessions/{session.pk}/",
            "webrtc_token": credential.webrtc_token,
            "url": credential.url,
            "room": credential.room,
            "identity": credential.identity,
        },
        status=201,
    )


def wanted_agent(request: HttpRequest) -> UUID:
    """The agent asked for, in JSON or a form; the only one if none is named. Raises BadRequestError."""
    if request.content_type == "application/json":
        wanted = read_object(request, MAX_MINT_BYTES).get("agent_id")
    else:
        wanted = request.POST.get("agent_id")
    if wanted is None and len(settings.VATEL_AGENTS) == 1:
        return next(iter(settings.VATEL_AGENTS))
    if not isinstance(wanted, str):
        raise BadRequestError("bad_request", "agent_id must be given, as a text.")
    try:
        agent_id = UUID(wanted)
    except ValueError:
        agent_id = None
    if agent_id not in settings.VATEL_AGENTS:
        raise BadRequestError("unknown_agent", "Reload the page to see who can be called.")
    return agent_id


def require_known_origin(url: str) -> None:
    """Raises VatelMediaOriginError: the browser's Content-Security-Policy would block this media server."""
    origin = vatel.origin_of(url)
    if origin not in map(vatel.origin_of, settings.VATEL_MEDIA_ORIGINS):
        raise vatel.VatelMediaOriginError(f"{origin} is not in VATEL_MEDIA_ORIGINS; add it if it is right")


@never_cache
@require_POST
def record_events(request: HttpRequest, session_id: UUID) -> JsonResponse:
    """The relay's second door, for a page that is closing and for what an earlier page left over."""
    visitor = request.session.get("visitor")
    if not visitor or not VoiceSession.objects.filter(pk=session_id, visitor=visitor).exists():
        return refusal(403, "not_yours", "This call is not yours.")
    try:
        frames = read_frames(request)
        ack = log.record(session_id, frames)
    except BadRequestError as error:
        return refusal(400, error.code, str(error))
    except log.SequenceGapError as gap:
        return refusal(409, "gap", str(gap), ack=gap.ack)
    except log.LogFullError as full:
        return refusal(429, "log_full", f"{full}.".capitalize())
    except log.LogClosedError:
        return refusal(410, "log_closed", "The log of this call is closed.")
    return JsonResponse({"ack": ack})


def read_frames(request: HttpRequest) -> list[events.Frame]:
    messages = read_object(request, MAX_EVENTS_BYTES).get("frames")
    if not isinstance(messages, list) or len(messages) > MAX_EVENTS:
        raise BadRequestError("bad_request", f"frames must be a list of at most {MAX_EVENTS} frames.")
    frames = []
    for message in messages:
        try:
            frame = events.read(message)
        except events.EventError as error:
            if error.seq is None:
                raise BadRequestError("bad_request", f"A frame cannot be read: {error.message}.") from error
            frame = error.as_frame()
        if not isinstance(frame, events.Frame):
            raise BadRequestError("bad_request", "Only numbered frames can be sent here.")
        frames.append(frame)
    return frames


def read_object(request: HttpRequest, limit: int) -> dict[str, Any]:
    # The length is looked at first, so that a large body, which the server keeps in a file, is not loaded.
    length = request.headers.get("Content-Length", "")
    if (length.isdigit() and int(length) > limit) or len(request.body) > limit:
        raise BadRequestError("bad_request", f"The request is larger than {limit} bytes.")
    try:
        value = events.decode(request.body.decode())
    except (events.EventError, UnicodeDecodeError):
        raise BadRequestError("bad_request", "The request is not JSON.") from None
    if not isinstance(value, dict):
        raise BadRequestError("bad_request", "The request must be a JSON object.")
    return value


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    if request.path.startswith("/sessions/"):
        return refusal(
            403, "csrf_failed", "Reload the page, then start again. Cookies must be allowed for this site."
        )
    return csrf_failure(request, reason)


def refusal(status: int, code: str, message: str, **more: Any) -> JsonResponse:
    return JsonResponse({"error": {"code": code, "message": message}, **more}, status=status)
