"""Browsers with sockets, for the tests of the relay and of the live transcript."""

import json
from typing import Any, Self
from uuid import UUID

from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.test import Client

from sessions_app.models import SessionEvent, VoiceSession
from sessions_app.relay import SENTENCES, Close
from voicedemo.asgi import application

PATIENCE_S = 30
"""How long a test waits for what should come at once; machines that run tests are busy."""

AGENT = UUID("5a1c0e5e-0000-4000-8000-000000000001")
ORIGIN = "http://testserver"
JUST_NOW = 24 * 3600 * 1000


def open_session(client: Client) -> VoiceSession:
    """A call of this browser, as after a mint; one more than it may have, if need be."""
    client.get("/")
    visitor = client.session["visitor"]
    return VoiceSession.objects.create(visitor=visitor, agent_id=AGENT, agent_name="Concierge")


def frame(seq: int, kind: str = "speech_started", /, at_ms: int | None = None, **data: Any) -> dict[str, Any]:
    return {"seq": seq, "at_ms": seq * 100 if at_ms is None else at_ms, "type": kind, "data": data}


def tool_call(seq: int, call_id: str, name: str, /, **arguments: Any) -> dict[str, Any]:
    """A tool call of this very moment, however long the test took until now: nothing is in the future."""
    descriptors = [{"name": key, "type": "string", "value": value} for key, value in arguments.items()]
    return frame(seq, "tool_call", JUST_NOW, toolCallId=call_id, toolName=name, arguments=descriptors)


async def rows(session: VoiceSession, source: str = "browser") -> list[tuple[int, str]]:
    """The log: (seq, type)."""
    lines = SessionEvent.objects.filter(session=session, source=source).order_by("seq")
    return [line async for line in lines.values_list("seq", "type")]


def welcome(ack: int) -> dict[str, Any]:
    """What a page hears first: the last number in its log, and how many frames it may have under way."""
    return {"type": "welcome", "ack": ack, "window": 256}


class Socket:
    """One WebSocket of a browser, as an async context manager."""

    def __init__(self, client: Client | None, path: str, **headers: str | None) -> None:
        given = {"host": "testserver", "origin": ORIGIN, **headers}
        if client is not None and (cookie := client.cookies.get(settings.SESSION_COOKIE_NAME)):
            given["cookie"] = f"{settings.SESSION_COOKIE_NAME}={cookie.value}"
        encoded = [(name.encode(), value.encode()) for name, value in given.items() if value is not None]
        self.communicator = WebsocketCommunicator(application, path, headers=encoded)
        self.is_accepted = False

    @classmethod
    def relay(
        cls, client: Client | None, session: VoiceSession | UUID, page: str = "", /, **headers: str | None
    ) -> Self:
        pk = session.pk if isinstance(session, VoiceSession) else session
        return cls(client, f"/ws/sessions/{pk}/" + (f"?page={page}" if page else ""), **headers)

    @classmethod
    def transcript(cls, client: Client | None, session: VoiceSession, **headers: str | None) -> Self:
        return cls(client, f"/ws/transcripts/{session.pk}/", **headers)

    async def __aenter__(self) -> Self:
        self.is_accepted, _ = await self.communicator.connect(timeout=PATIENCE_S)
        return self

    async def __aexit__(self, *error: object) -> None:
        if self.is_accepted:
            await self.communicator.disconnect(timeout=PATIENCE_S)

    async def send(self, *messages: Any) -> None:
        """Strings as they are, anything else as JSON."""
        for message in messages:
            text = message if isinstance(message, str) else json.dumps(message)
            await self.communicator.send_to(text_data=text)

    async def hear(self) -> Any:
        """The next message; a close counts as {"close": code}."""
        output = await self.communicator.receive_output(timeout=PATIENCE_S)
        if output["type"] == "websocket.close":
            return {"close": output["code"]}
        message = json.loads(output["text"])
        if message["type"] != "refused":
            return message
        # The reason comes before the close that it is for.
        closed = await self.communicator.receive_output(timeout=PATIENCE_S)
        assert message == {
            "type": "refused",
            "code": Close(closed["code"]).name.lower(),
            "message": SENTENCES[Close(closed["code"])],
        }
        return {"close": closed["code"]}

    async def hear_until(self, wanted: Any) -> list[Any]:
        """Everything up to the message that is waited for."""
        heard = [await self.hear()]
        while heard[-1] != wanted:
            assert "close" not in heard[-1], heard
            heard.append(await self.hear())
        return heard
