"""The voice platform's API, as far as the site uses it.

VatelError
├── VatelRejectedError        it found our request faulty
│   └── VatelCallUnknownError there is no such call
├── VatelKeyRefusedError      it does not know our API key
├── VatelAgentForeignError    the agent (or the call) belongs to another organization
├── VatelAgentUnknownError    there is no such agent
├── VatelNotConfiguredError   it is not set up for calls from a browser
├── VatelBusyError            it cannot take a call now
├── VatelFailedError          it failed, or answered in a way of its own
├── VatelTimeoutError         it did not answer in time
├── VatelUnreachableError     no connection could be made, or it broke
├── VatelBadAnswerError       it said yes, but not in the agreed form
├── VatelNoTokenError         it said yes, but gave no token for a browser
└── VatelMediaOriginError     its media server is none that our pages may reach
"""

import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Self
from urllib.parse import quote, urlsplit
from uuid import UUID

import httpx
from django.conf import settings

TRANSPORT_WEBRTC = "webrtc"
TRANSPORT_WEBSOCKET = "websocket"

CONNECT_S = 3.0
READ_S = 10.0
TOTAL_S = 15.0
"""READ_S limits each wait; a server that sends a byte now and then would keep us for ever."""

MAX_ANSWER_BYTES = 64 * 1024
MAX_LIST_BYTES = 1024 * 1024
"""Of the list of agents, with all that their owner has written about each."""
MAX_RECORD_BYTES = 8 * 1024 * 1024
"""Of a call's record: some ten thousand turns."""
CHUNK = 64 * 1024
"""Bytes of a recording that are read at once."""

NOT_CONFIGURED = re.compile(
    r"(\bnot|n't) (yet |been )*(configured|enabled|set up)|\bunconfigured\b", re.IGNORECASE
)
"""How a 503 to a mint reads when it does not pass by itself: the platform has one status for both."""


class VatelError(Exception):
    """The platform did not do what it was asked to. `code` is for the visitor, its text for the operator."""

    code: ClassVar[str]
    status: ClassVar[int] = 502
    level: ClassVar[int] = logging.ERROR
    """ERROR: somebody must change something. WARNING: it may pass by itself."""


class VatelRejectedError(VatelError):
    code = "platform_rejected"


class VatelCallUnknownError(VatelRejectedError):
    """Asked for after the call, so no visitor ever hears of it."""

    code = "platform_call_unknown"
    level = logging.WARNING


class VatelKeyRefusedError(VatelError):
    code = "platform_key_refused"


class VatelAgentForeignError(VatelError):
    code = "platform_agent_foreign"


class VatelAgentUnknownError(VatelError):
    code = "platform_agent_unknown"


class VatelNotConfiguredError(VatelError):
    code = "platform_not_configured"


class VatelBusyError(VatelError):
    code = "platform_busy"
    status = 503
    level = logging.WARNING


class VatelFailedError(VatelError):
    code = "platform_failed"
    level = logging.WARNING


class VatelTimeoutError(VatelError):
    code = "platform_timeout"
    status = 504
    level = logging.WARNING


class VatelUnreachableError(VatelError):
    code = "platform_unreachable"
    level = logging.WARNING


class VatelBadAnswerError(VatelError):
    code = "platform_bad_answer"


class VatelNoTokenError(VatelError):
    code = "platform_no_token"


class VatelMediaOriginError(VatelError):
    code = "platform_media_origin"


BY_STATUS: dict[int, type[VatelError]] = {
    400: VatelRejectedError,
    401: VatelKeyRefusedError,
    403: VatelAgentForeignError,
    404: VatelAgentUnknownError,
    503: VatelBusyError,
}
BY_STATUS_OF_A_CALL = BY_STATUS | {404: VatelCallUnknownError}


@dataclass(frozen=True)
class SessionToken:
    """The credential of a call. The browser gets `webrtc_token`; `token` opens other APIs and stays here."""

    token: str = field(repr=False)
    webrtc_token: str = field(repr=False)
    url: str
    room: str
    identity: str

    @classmethod
    def read(cls, answer: Any) -> Self:
        """Raises VatelBadAnswerError and VatelNoTokenError; their text names the field, never its value."""
        if not isinstance(answer, dict):
            raise VatelBadAnswerError("the answer is not a JSON object")
        texts = {}
        for name in cls.__dataclass_fields__:
            text = answer.get(name)
            if not isinstance(text, str) or not text:
                # Platforms that cannot do WebRTC leave out this one only.
                kind = VatelNoTokenError if name == "webrtc_token" else VatelBadAnswerError
                raise kind(f"the answer has no usable {name}")
            texts[name] = text
        if len(texts["room"]) > 255 or len(texts["identity"]) > 255:
            raise VatelBadAnswerError("room or identity is longer than 255 characters")
        if origin_of(texts["url"]) is None:
            raise VatelBadAnswerError("url of the answer is not a ws(s) URL")
        return cls(**texts)


@dataclass(frozen=True)
class Recording:
    """A call's recording while it comes from the platform. Whoever has it closes it."""

    status: int
    """200: all of it. 206: a part. 416: it has no such part."""
    headers: Mapping[str, str]
    """Whatever their case."""
    chunks: Iterator[bytes]
    """Of CHUNK bytes at most. Raises VatelTimeoutError and VatelUnreachableError."""
    _response: httpx.Response = field(repr=False)

    def close(self) -> None:
        self._response.close()


def origin_of(url: str) -> str | None:
    """scheme://host[:port] of a ws(s) URL, in one spelling; None if it is none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.username is not None:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    is_default = port is None or port == {"ws": 80, "wss": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" if is_default else f"{parts.scheme}://{host}:{port}"


class VatelClient:
    """One for each process; threads may share it. Its repr and its errors hold neither key nor token."""

    def __init__(self, base_url: str, api_key: str, transport: httpx.BaseTransport | None = None) -> None:
        self._api_key = api_key
        self._http = httpx.Client(
            base_url=base_url,
            # Compressed answers could unpack to more than MAX_ANSWER_BYTES at once.
            headers={"Authorization": f"Bearer {api_key}", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(READ_S, connect=CONNECT_S),
            # Retries concern connecting only; a mint that may have been done is never sent again.
            transport=transport or httpx.HTTPTransport(retries=1, trust_env=False),
            follow_redirects=False,
            trust_env=False,
        )

    def generate_session_token(
        self,
        agent_id: UUID,
        transport: str = TRANSPORT_WEBRTC,
        *,
        version_id: UUID | None = None,
        first_message: str | None = None,
        prompt: str | None = None,
        chat: bool | None = None,
        chat_id: UUID | None = None,
        variables: dict[str, str] | None = None,
    ) -> SessionToken:
        """Asks for the credential of one call. Raises VatelError."""
        body: dict[str, Any] = {"agent_id": str(agent_id), "transport": transport}
        optional = {
            "version_id": version_id and str(version_id),
            "first_message": first_message,
            "prompt": prompt,
            "chat": chat,
            "chat_id": chat_id and str(chat_id),
            "variables": variables and [{"key": key, "value": value} for key, value in variables.items()],
        }
        body |= {name: value for name, value in optional.items() if value is not None}
        try:
            answer = self._ask("POST", "/v1/session-token", body)
        except VatelBusyError as error:
            if NOT_CONFIGURED.search(str(error)):
                raise VatelNotConfiguredError(str(error)) from error
            raise
        return SessionToken.read(answer)

    def list_agents(self) -> Any:
        """The organization's agents, as they come: reading them is agents.py's. Raises VatelError."""
        return self._ask("GET", "/v1/agents", limit=MAX_LIST_BYTES)

    def get_call(self, call_id: str) -> Any:
        """The platform's own record of a call, as it comes: reading it is record.py's. Raises VatelError."""
        return self._ask("GET", _path_of(call_id), limit=MAX_RECORD_BYTES, errors=BY_STATUS_OF_A_CALL)

    def open_recording(self, call_id: str, range_header: str = "") -> Recording:
        """The recording of a call, to be read while it comes; `range_header` asks for a part of it.

        A platform need not know Range, and then answers with all of it. Raises VatelError.
        """
        path = f"{_path_of(call_id)}/recording"
        headers = {"Range": range_header} if range_header else {}
        with self._troubles():
            response = self._http.send(self._http.build_request("GET", path, headers=headers), stream=True)
        if response.status_code in (200, 206, 416):
            return Recording(response.status_code, response.headers, self._chunks(response), response)
        try:
            with self._troubles():
                content = _read_limited(response, MAX_ANSWER_BYTES)
        finally:
            response.close()
        raise self._refusal(path, response, content, BY_STATUS_OF_A_CALL)

    def _chunks(self, response: httpx.Response) -> Iterator[bytes]:
        with self._troubles():
            yield from response.iter_raw(CHUNK)

    def _ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        limit: int = MAX_ANSWER_BYTES,
        errors: Mapping[int, type[VatelError]] = BY_STATUS,
    ) -> Any:
        with self._troubles(), self._http.stream(method, path, json=body) as response:
            content = _read_limited(response, limit)
        if response.status_code != 200:
            raise self._refusal(path, response, content, errors)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise VatelBadAnswerError(f"{path} answered 200 with something that is not JSON") from error

    @contextmanager
    def _troubles(self) -> Iterator[None]:
        """Gives httpx's errors our names."""
        try:
            yield
        except httpx.TimeoutException as error:
            raise VatelTimeoutError(
                f"no answer from {self._http.base_url}: {type(error).__name__}"
            ) from error
        except httpx.TransportError as error:
            said = self._without_secrets(f"{type(error).__name__} {error}")
            raise VatelUnreachableError(f"no connection to {self._http.base_url}: {said}") from error

    def _refusal(
        self, path: str, response: httpx.Response, content: bytes, errors: Mapping[int, type[VatelError]]
    ) -> VatelError:
        kind = errors.get(response.status_code, VatelFailedError)
        said = self._without_secrets(content.decode(errors="replace"))
        return kind(f"{path} answered {response.status_code}: {said or 'nothing'}")

    def _without_secrets(self, text: str) -> str:
        """The start of an error's text for the operator; a platform may quote what it was sent."""
        # Stripped: an error that quotes a key which no header can hold writes its line break as an escape.
        text = text.replace(self._api_key.strip(), "[key]")
        text = re.sub(r"eyJ[\w.-]+", "[token]", text)
        return " ".join(text.split())[:200]


def _path_of(call_id: str) -> str:
    # Named by a browser, so it may hold anything: "../agents" must not become another address.
    if call_id.strip(".") == "":
        raise VatelCallUnknownError(f"{call_id!r} is no call's id")
    return f"/v1/calls/{quote(call_id, safe='')}"


def _read_limited(response: httpx.Response, limit: int) -> bytes:
    content = bytearray()
    deadline = time.monotonic() + TOTAL_S
    for chunk in response.iter_raw():
        content += chunk
        if len(content) > limit:
            raise VatelBadAnswerError(f"the answer is over {limit} bytes")
        if time.monotonic() > deadline:
            raise VatelTimeoutError(f"the answer was not complete after {TOTAL_S:.0f} s")
    return bytes(content)


def platform() -> VatelClient:
    """The client for the platform of the settings."""
    return _client(settings.VATEL_BASE_URL, settings.VATEL_API_KEY)


@lru_cache(maxsize=1)
def _client(base_url: str, api_key: str) -> VatelClient:
    return VatelClient(base_url, api_key)
