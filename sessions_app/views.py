"""Pages, and what the talk page asks for: the credential of a call, and a second way into its log."""

import logging
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.views.csrf import csrf_failure
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_POST, require_safe

from sessions_app import events, log, vatel
from sessions_app.admission import Caller, TooManyError, address_of
from sessions_app.agents import Agent, callable_agent, offered
from sessions_app.models import VoiceSession
from sessions_app.situations import SITUATIONS

logger = logging.getLogger(__name__)

MAX_MINT_BYTES = 16 * 1024
MAX_EVENTS_BYTES = 512 * 1024
MAX_EVENTS = 1000


STATUSES = {
    "bad_request": 400,
    "unknown_agent": 400,
    "login_required": 401,
    "csrf_failed": 403,
    "consent_required": 409,
}
"""Of the situations that the site itself sees when a call is to be started."""


class RefusedError(Exception):
    """What was asked is not done; `code` is one of STATUSES, and the text is for the visitor."""

    def __init__(self, code: str, sentence: str = "") -> None:
        super().__init__(sentence or SITUATIONS[code].sentence)
        self.code = code


@never_cache
@require_safe
@ensure_csrf_cookie
def index(request: HttpRequest) -> HttpResponse:
    """The talk page of the only agent, or the list of all."""
    if must_log_in(request):
        return redirect_to_login(request.get_full_path())
    agents = offered()
    if len(agents) == 1:
        return talk_page(request, agents[0], has_others=False)
    return render(request, "sessions_app/agents.html", {"agents": agents, "login_url": login_url(request)})


@never_cache
@require_safe
@ensure_csrf_cookie
def talk(request: HttpRequest, agent_id: UUID) -> HttpResponse:
    if must_log_in(request):
        return redirect_to_login(request.get_full_path())
    agents = offered()
    for agent in agents:
        if agent.id == agent_id:
            return talk_page(request, agent, has_others=len(agents) > 1)
    raise Http404("This agent is not offered.")


def talk_page(request: HttpRequest, agent: Agent, *, has_others: bool) -> HttpResponse:
    visitor_of(request)
    version = consent_version()
    context = {
        "agent": {"id": str(agent.id), "name": agent.name},
        "has_others": has_others,
        "consent": {"version": version, "is_given": request.session.get("consent") == version}
        if version
        else None,
        "media_origins": [origin.replace("ws", "http", 1) for origin in settings.VATEL_MEDIA_ORIGINS],
        "login_url": login_url(request),
    }
    return render(request, "sessions_app/talk.html", context)


def must_log_in(request: HttpRequest) -> bool:
    return settings.CALL_ACCESS == "login" and not request.user.is_authenticated


def login_url(request: HttpRequest) -> str:
    """Where a page's visitor logs in and comes back to it; "" where calls need no account."""
    if settings.CALL_ACCESS == "public":
        return ""
    return f"{reverse('login')}?{urlencode({'next': request.path})}"


def consent_version() -> str:
    """Names the text that a visitor agrees to before the first call; "" where nobody is asked."""
    if not settings.CONSENT:
        return ""
    text = render_to_string("sessions_app/_consent.html")
    return sha256(text.encode()).hexdigest()[:12]


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
        if must_log_in(request):
            raise RefusedError("login_required")
        wishes = read_wishes(request)
        agent = wanted_agent(wishes)
        consent = given_consent(request, wishes)
        caller = Caller(visitor_of(request), request.user.pk, address_of(request))
        session = VoiceSession.objects.open(
            caller, agent_id=agent.id, agent_name=agent.name, consent_version=consent
        )
    except RefusedError as error:
        return refusal(STATUSES[error.code], error.code, str(error))
    except TooManyError as error:
        logger.warning("no place for another call: %s: %s", error.code, error)
        response = refusal(429, error.code, error.sentence)
        response["Retry-After"] = str(error.retry_after_s)
        return response
    try:
        credential = vatel.platform().generate_session_token(agent.id)
        require_known_origin(credential.url)
    except vatel.VatelError as error:
        logger.log(error.level, "session %s, agent %s: %s: %s", session.pk, agent.id, error.code, error)
        with transaction.atomic():
            log.end(session, VoiceSession.EndReason.FAILED, timezone.now())
        return refusal(error.status, error.code, SITUATIONS[error.code].sentence)
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


def read_wishes(request: HttpRequest) -> Mapping[str, Any]:
    """What the page asks for, in JSON or a form. Raises RefusedError."""
    if request.content_type == "application/json":
        return read_object(request, MAX_MINT_BYTES)
    return request.POST


def wanted_agent(wishes: Mapping[str, Any]) -> Agent:
    """The agent asked for; the only one if none is named. Raises RefusedError."""
    wanted = wishes.get("agent_id")
    if wanted is None and len(settings.VATEL_AGENT_IDS) == 1:
        wanted = str(settings.VATEL_AGENT_IDS[0])
    if not isinstance(wanted, str):
        raise RefusedError("bad_request", "agent_id must be given, as a text.")
    try:
        agent = callable_agent(UUID(wanted))
    except ValueError:
        agent = None
    if agent is None:
        raise RefusedError("unknown_agent")
    return agent


def given_consent(request: HttpRequest, wishes: Mapping[str, Any]) -> str:
    """The version of the text that the visitor agrees to; "" where nobody is asked. Raises RefusedError."""
    version = consent_version()
    if version and wishes.get("consent") != version:
        raise RefusedError("consent_required")
    if version and request.session.get("consent") != version:
        request.session["consent"] = version
        request.session.save()  # Django itself keeps nothing when the answer is an error of the platform
    return version


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
    try:
        if not visitor or not VoiceSession.objects.filter(pk=session_id, visitor=visitor).exists():
            raise VoiceSession.DoesNotExist
        frames = read_frames(request)
        ack = log.record(session_id, frames)
    except RefusedError as error:
        return refusal(STATUSES[error.code], error.code, str(error))
    except VoiceSession.DoesNotExist:  # also: deleted since it was looked for
        return refusal(403, "not_yours", "This call is not yours, or is no longer there.")
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
        raise RefusedError("bad_request", f"frames must be a list of at most {MAX_EVENTS} frames.")
    frames = []
    for message in messages:
        try:
            frame = events.read(message)
        except events.EventError as error:
            if error.seq is None:
                raise RefusedError("bad_request", f"A frame cannot be read: {error.message}.") from error
            frame = error.as_frame()
        if not isinstance(frame, events.Frame):
            raise RefusedError("bad_request", "Only numbered frames can be sent here.")
        frames.append(frame)
    return frames


def read_object(request: HttpRequest, limit: int) -> dict[str, Any]:
    # The length is looked at first, so that a large body, which the server keeps in a file, is not loaded.
    length = request.headers.get("Content-Length", "")
    if (length.isdigit() and int(length) > limit) or len(request.body) > limit:
        raise RefusedError("bad_request", f"The request is larger than {limit} bytes.")
    try:
        value = events.decode(request.body.decode())
    except (events.EventError, UnicodeDecodeError):
        raise RefusedError("bad_request", "The request is not JSON.") from None
    if not isinstance(value, dict):
        raise RefusedError("bad_request", "The request must be a JSON object.")
    return value


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    if request.path.startswith("/sessions/"):
        return refusal(STATUSES["csrf_failed"], "csrf_failed", SITUATIONS["csrf_failed"].sentence)
    return csrf_failure(request, reason)


def refusal(status: int, code: str, message: str, **more: Any) -> JsonResponse:
    return JsonResponse({"error": {"code": code, "message": message}, **more}, status=status)
