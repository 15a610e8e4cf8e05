"""What a browser may do with our pages, which pages may open our sockets, and the answer to probes."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.http.request import split_domain_port, validate_host
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

log = logging.getLogger(__name__)

PERMISSIONS = ", ".join(
    [f"{feature}=(self)" for feature in ("microphone", "speaker-selection", "autoplay", "screen-wake-lock")]
    + [
        f"{feature}=()"
        for feature in (
            *("camera", "display-capture", "geolocation", "accelerometer", "gyroscope", "magnetometer"),
            *("midi", "payment", "usb", "serial", "hid", "fullscreen", "picture-in-picture"),
            *("publickey-credentials-get", "xr-spatial-tracking"),
        )
    ]
)


def browser_policies(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Adds Content-Security-Policy (SECURE_CSP) and Permissions-Policy to every response."""
    policy = content_security_policy(settings.SECURE_CSP)

    def respond(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response["Permissions-Policy"] = PERMISSIONS
        # Django's own error pages of DEBUG mode have inline styles and scripts.
        if not (settings.DEBUG and response.status_code in (404, 500)):
            response["Content-Security-Policy"] = policy
        return response

    return respond


@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """For load balancers and monitors: this process runs and reaches its database."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        log.exception("the database cannot be reached")
        return HttpResponse("the database cannot be reached", status=503, content_type="text/plain")
    return HttpResponse("ok", content_type="text/plain")


def health(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Answers probes before anything reads the Host header: load balancers call a machine by its address."""

    def respond(request: HttpRequest) -> HttpResponseBase:
        return healthz(request) if request.path == "/healthz" else get_response(request)

    return respond


def content_security_policy(directives: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{name} {' '.join(sources)}" for name, sources in directives.items())


class SameOrigin:
    """ASGI middleware: a WebSocket opens only for a page of this very site, by scheme, host and port.

    A browser sends our cookies with any page's WebSocket handshake, and CSRF tokens play no part in it, so
    this check is what keeps other sites out. Without an Origin header there is no page: refused as well.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        host, origin = header(scope, b"host"), header(scope, b"origin")
        if is_same_origin(origin, host):
            await self.app(scope, receive, send)
            return
        log.warning("refused a WebSocket at %.200r: origin %.100r, host %.100r", scope["path"], origin, host)
        await WebsocketDenier()(scope, receive, send)


def header(scope: Mapping[str, Any], wanted: bytes) -> str:
    """The last header of that name; "" if there is none."""
    return next((value.decode("latin-1") for name, value in reversed(scope["headers"]) if name == wanted), "")


def is_same_origin(origin: str, host: str) -> bool:
    # Daphne does not tell the scheme of a WebSocket; with HTTPS on, nothing is served over plain HTTP.
    if origin.lower() not in {
        f"{'https' if settings.HTTPS else 'http'}://{host.lower()}",
        *settings.CSRF_TRUSTED_ORIGINS,
    }:
        return False
    return validate_host(split_domain_port(host)[0], settings.ALLOWED_HOSTS)
