"""What a browser may do with our pages, and which pages may open our sockets."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.http.request import split_domain_port, validate_host

log = logging.getLogger(__name__)

PERMISSIONS = ", ".join(
    [f"{feature}=(self)" for feature in ("microphone", "autoplay", "screen-wake-lock")]
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
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin", "")
        if is_same_origin(origin, host):
            await self.app(scope, receive, send)
            return
        log.warning("refused a WebSocket at %s: origin %.100r, host %.100r", scope["path"], origin, host)
        await WebsocketDenier()(scope, receive, send)


def is_same_origin(origin: str, host: str) -> bool:
    # Daphne does not tell the scheme of a WebSocket; with HTTPS on, nothing is served over plain HTTP.
    if origin.lower() not in {
        f"{'https' if settings.HTTPS else 'http'}://{host.lower()}",
        *settings.CSRF_TRUSTED_ORIGINS,
    }:
        return False
    return validate_host(split_domain_port(host)[0], settings.ALLOWED_HOSTS)
