"""The fast path for the usual frame: nobody can tell it from autobahn's, except by the clock."""

import asyncio
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import accumulate, pairwise
from operator import add
from typing import Any

import pytest
import txaio.tx
from daphne.server import Server
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.python.failure import Failure

from voicedemo.frames import FastPath
from voicedemo.server import WebSocket

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
PING_TIMEOUT_S = 30

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN = 0x80


# ------------------------------------------------------------------ a client's frames, by the RFC


def encoded(opcode: int, payload: bytes, key: bytes | None = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """A frame, with a masking key of its own (b""), with this one, or without (None)."""
    size = len(payload)
    if size < 126:
        length, more = size, b""
    elif size < 2**16:
        length, more = 126, size.to_bytes(2, "big")
    else:
        length, more = 127, size.to_bytes(8, "big")
    first = fin << 7 | rsv << 4 | opcode
    if key is None:
        return bytes([first, length]) + more + payload
    key = key or bytes([size % 251, 0x5A, 0x00, 0xFF])
    whole, left = divmod(size, 4)
    stream = key * whole + key[:left]
    return (
        bytes([first, 0x80 | length])
        + more
        + key
        + bytes(a ^ b for a, b in zip(payload, stream, strict=True))
    )


def decoded(octets: bytes) -> list[tuple[int, bytes]]:
    """A server's frames, none of which is masked or a fragment: opcode and payload."""
    frames = []
    while octets:
        assert octets[0] & 0xF0 == FIN
        length, start = octets[1], 2
        assert length < 128
        if length >= 126:
            start = 4 if length == 126 else 10
            length = int.from_bytes(octets[2:start], "big")
        frames.append((octets[0] & 0x0F, octets[start : start + length]))
        octets = octets[start + length :]
    return frames


# ------------------------------------------------------------------ a socket in memory


@dataclass
class Ear:
    """An application that remembers what it heard."""

    heard: list[dict[str, Any]] = field(default_factory=list)
    is_open: asyncio.Event = field(default_factory=asyncio.Event)
    has_ended: asyncio.Event = field(default_factory=asyncio.Event)
    send: Any = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.send = send
        await receive()
        await send({"type": "websocket.accept"})
        self.is_open.set()
        while not self.heard or self.heard[-1]["type"] == "websocket.receive":
            self.heard.append(await receive())
        self.has_ended.set()


class Line:
    """One socket of Daphne's, after a real handshake, over a transport in memory."""

    def __init__(
        self, kind: type[WebSocketProtocol], max_message: int = 2**20, max_frame: int = 2**20
    ) -> None:
        self.ear = Ear()
        server = Server(self.ear, endpoints=["none"], ping_timeout=PING_TIMEOUT_S)
        server.connections = {}  # as run() does, and what follows
        factory = WebSocketFactory(server)
        factory.protocol = kind
        factory.setProtocolOptions(
            autoPingTimeout=server.ping_timeout,
            maxMessagePayloadSize=max_message,
            maxFramePayloadSize=max_frame,
        )
        # Any: Twisted's tools for tests have no types.
        transport: Any = StringTransportWithDisconnection
        self.transport = transport(lenient=True)
        self.transport.registerProducer(object(), True)  # the HTTP channel
        self.protocol = factory.buildProtocol(self.transport.getPeer())
        self.protocol._raw_query_string = b""
        self.transport.protocol = self.protocol

    async def open(self) -> None:
        self.protocol.makeConnection(self.transport)
        self.protocol.dataReceived(HANDSHAKE)
        await self.ear.is_open.wait()
        assert self.said().startswith(b"HTTP/1.1 101 ")
        self.transport.clear()

    def said(self) -> bytes:
        """What the server wrote since the handshake."""
        said: bytes = self.transport.value()
        return said

    def tell(self, octets: bytes) -> None:
        """What comes from the client; after the end, nothing comes."""
        if self.transport.connected:
            self.protocol.dataReceived(octets)

    async def close(self) -> None:
        if self.transport.connected:
            self.transport.connected = False
            self.protocol.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
        await self.ear.has_ended.wait()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of autobahn's timers, which stands still until a test moves it."""
    clock = Clock()
    monkeypatch.setattr(txaio.tx.config, "loop", clock)
    return clock


@dataclass
class Outcome:
    heard: list[dict[str, Any]]
    """What the application was told; at last, the close code."""
    said: bytes
    """Pongs, close frames."""
    is_cut: bool


async def outcome(kind: type[WebSocketProtocol], chunks: Iterable[bytes], limits: tuple[int, int]) -> Outcome:
    line = Line(kind, *limits)
    await line.open()
    for chunk in chunks:
        line.tell(chunk)
    is_cut = not line.transport.connected
    await line.close()
    return Outcome(line.ear.heard, line.said(), is_cut)


# ------------------------------------------------------------------ receiving

SIZES = st.sampled_from([*[0, 1, 3, 4, 5, 124, 125, 126, 127, 128] * 2, 65534, 65535, 65536, 65537])


def text_of(size: int, beginning: str) -> bytes:
    """UTF-8 of exactly that many octets."""
    start = beginning.encode()[:size].decode(errors="ignore").encode()
    return start.ljust(size, b"~")


KEYS = st.one_of(st.just(b""), st.just(b"\0\0\0\0"), st.binary(min_size=4, max_size=4))
TEXTS = st.one_of(st.text(max_size=40).map(str.encode), st.builds(text_of, SIZES, st.text(max_size=5)))
CONTROLS = st.builds(
    encoded, st.sampled_from([PING, PONG]), st.one_of(st.binary(max_size=9), st.just(b"p" * 125)), KEYS
)


@st.composite
def fragmented(draw: st.DrawFn) -> list[bytes]:
    """A message in several frames, with control frames between them; characters are cut as well."""
    opcode, payload = draw(
        st.one_of(st.tuples(st.just(TEXT), TEXTS), st.tuples(st.just(BINARY), st.binary(max_size=20)))
    )
    places = sorted(draw(st.lists(st.integers(0, len(payload)), min_size=1, max_size=3)))
    frames: list[bytes] = []
    for start, end in pairwise([0, *places, len(payload)]):
        part = payload[start:end]
        frames.append(encoded(CONTINUATION if frames else opcode, part, draw(KEYS), fin=False))
        frames += draw(st.lists(CONTROLS, max_size=1))
    return [*frames, encoded(CONTINUATION, b"")]


USUAL = st.builds(encoded, st.just(TEXT), TEXTS, KEYS)
BINARIES = st.builds(encoded, st.just(BINARY), st.binary(max_size=200), KEYS)
CLOSES = st.one_of(
    st.just(b""),
    st.builds(
        lambda code, reason: code.to_bytes(2, "big") + reason.encode(),
        st.sampled_from([1000, 1001, 3000, 4999, 0, 999, 1005, 1012, 5000]),
        st.text(max_size=9),
    ),
    st.binary(min_size=1, max_size=4),
).map(lambda payload: encoded(CLOSE, payload))
NO_KEY = b"\0\0\0\0"


def wordy(size: int, octets: int) -> bytes:
    """A text whose length takes more octets than it must."""
    length = {2: 126, 8: 127}[octets]
    return bytes([FIN | TEXT, 0x80 | length]) + size.to_bytes(octets, "big") + NO_KEY + b"x" * size


BAD_TEXTS = [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xe2\x82", b"\xf4\x90\x80\x80", b"good \x80"]
INVALID = st.one_of(
    st.sampled_from(BAD_TEXTS).map(lambda payload: [encoded(TEXT, payload)]),
    TEXTS.map(lambda payload: [encoded(TEXT, payload, None)]),
    st.integers(1, 7).map(lambda rsv: [encoded(TEXT, b"x", rsv=rsv)]),
    st.sampled_from([3, 7, 11, 15]).map(lambda opcode: [encoded(opcode, b"x")]),
    st.just([encoded(CONTINUATION, b"x")]),
    st.just([encoded(TEXT, b"x", fin=False), encoded(TEXT, b"y")]),
    st.just([encoded(PING, b"x", fin=False)]),
    st.just([encoded(PING, b"x" * 126)]),
    st.builds(wordy, st.integers(0, 125), st.just(2)).map(lambda octets: [octets]),
    st.builds(wordy, st.sampled_from([0, 125, 126, 65535]), st.just(8)).map(lambda octets: [octets]),
    st.just([bytes([FIN | TEXT, 0xFF]) + b"\xff" * 8 + NO_KEY]),
    st.binary(max_size=20).map(lambda octets: [octets]),
)
VALID = st.one_of(
    USUAL.map(lambda octets: [octets]),
    st.one_of(CONTROLS, BINARIES).map(lambda octets: [octets]),
    fragmented(),
)
STORIES = st.tuples(
    st.lists(VALID, min_size=1, max_size=8),
    st.one_of(st.just([]), st.tuples(st.one_of(INVALID, CLOSES.map(lambda octets: [octets]))).map(list)),
    st.lists(VALID, max_size=2),
).map(lambda parts: [octets for part in parts for frames in part for octets in frames])
"""Frames of some messages, of what ends the socket, perhaps, and of what comes too late."""

LIMITS = st.sampled_from([(2**20, 2**20), (0, 0), (65536, 0), (70000, 65535), (0, 130), (20, 2**20)])
"""Of a message and of a frame; 0: none."""


@st.composite
def cuts(draw: st.DrawFn, frames: list[bytes]) -> list[bytes]:
    """The same octets in other pieces: all in one, frame by frame, or cut anywhere, mostly near the edges."""
    edges = [0, *accumulate(map(len, frames))]
    near = st.builds(add, st.sampled_from(edges), st.integers(-9, 9))
    places = draw(
        st.one_of(
            st.just([]),
            st.just(edges),
            st.lists(st.one_of(near, st.sampled_from(edges), st.integers(0, edges[-1])), max_size=9),
        )
    )
    octets = b"".join(frames)
    bounds = sorted({0, edges[-1], *(place for place in places if 0 < place < edges[-1])})
    return [octets[start:end] for start, end in pairwise(bounds)]


def check_same(chunks: list[bytes], limits: tuple[int, int] = (2**20, 2**20)) -> None:
    ours, stock = (asyncio.run(outcome(kind, chunks, limits)) for kind in (WebSocket, WebSocketProtocol))
    assert ours == stock


@given(STORIES.flatmap(cuts), LIMITS)
@settings(max_examples=200)
def test_application_hears_the_same(chunks: list[bytes], limits: tuple[int, int]) -> None:
    check_same(chunks, limits)


AWKWARD = {
    "a frame in a payload": [encoded(BINARY, encoded(TEXT, b"inner"), NO_KEY), encoded(TEXT, b"outer")],
    "a frame in a ping": [encoded(PING, encoded(TEXT, b"inner"), NO_KEY), encoded(TEXT, b"outer")],
    "a frame in a header": [encoded(TEXT, b"x", b"\x80abc"), encoded(TEXT, b"next")],
    "a text in a fragmented one": [encoded(TEXT, b"x", fin=False), encoded(TEXT, b"y"), encoded(TEXT, b"z")],
    "a ping in between": [encoded(TEXT, b"one"), encoded(PING, b"p"), encoded(TEXT, b"two")],
    "one that is bad": [encoded(TEXT, b"one"), encoded(TEXT, b"\xff"), encoded(TEXT, b"two")],
    "one that is half a character": [
        encoded(TEXT, "é".encode()),
        encoded(TEXT, b"\xc3"),
        encoded(TEXT, b"\xa9"),
    ],
    "none that is masked": [encoded(TEXT, b"one", None), encoded(TEXT, b"two", None)],
    "a long length for a short one": [encoded(TEXT, b"one"), wordy(5, 2), encoded(TEXT, b"two")],
    "a longer one for it": [encoded(TEXT, b"one"), wordy(127, 8), encoded(TEXT, b"two")],
    "none": [encoded(TEXT, b""), encoded(TEXT, b"")],
    "what comes too late": [encoded(TEXT, b"one"), encoded(CLOSE, b"\x03\xe8"), encoded(TEXT, b"late")],
}


@pytest.mark.parametrize("frames", AWKWARD.values(), ids=AWKWARD.keys())
def test_awkward_frames_are_heard_the_same_wherever_they_are_cut(frames: list[bytes]) -> None:
    octets = b"".join(frames)
    check_same([octets])
    for place in range(1, len(octets)):
        check_same([octets[:place], octets[place:]])


@pytest.mark.parametrize("limits", [(10, 0), (0, 10), (10, 20), (20, 10)])
@pytest.mark.parametrize("size", [9, 10, 11, 200])
def test_too_long_a_frame_is_refused_the_same(size: int, limits: tuple[int, int]) -> None:
    check_same([encoded(TEXT, b"before") + encoded(TEXT, b"x" * size) + encoded(TEXT, b"after")], limits)


def test_messages_come_in_order_and_whole() -> None:
    """Not compared with autobahn, but with what was sent."""
    texts = ["", "a", "ü" * 63, "€" * 42, "x" * 125, "x" * 126, "😀" * 1000, "y" * 65535, "z" * 65536, "last"]
    octets = b"".join(encoded(TEXT, text.encode()) for text in texts)
    for size in (7, 1000, len(octets)):
        chunks = [octets[at : at + size] for at in range(0, len(octets), size)]
        heard = asyncio.run(outcome(WebSocket, chunks, (0, 0))).heard
        assert [message["text"] for message in heard[:-1]] == texts
        assert heard[-1] == {"type": "websocket.disconnect", "code": 1006}


def run(story: Callable[[Line], Any], kind: type[WebSocketProtocol] = WebSocket) -> None:
    async def whole() -> None:
        line = Line(kind)
        await line.open()
        await story(line)
        await line.close()

    asyncio.run(whole())


def test_usual_frames_are_spared_autobahn() -> None:
    """Otherwise the fast path would be right, and of no use."""

    async def story(line: Line) -> None:
        line.tell(encoded(TEXT, b"short") + encoded(TEXT, b"long" * 100))
        await line.ear.send({"type": "websocket.send", "text": "answer"})
        seen = line.protocol.trafficStats
        assert (seen.incomingWebSocketFrames, seen.outgoingWebSocketFrames) == (0, 0)
        line.tell(encoded(BINARY, b"unusual") + encoded(TEXT, b"behind it"))
        await line.ear.send({"type": "websocket.send", "bytes": b"unusual"})
        assert (seen.incomingWebSocketFrames, seen.outgoingWebSocketFrames) == (2, 1)
        # And it is usual again.
        line.tell(encoded(TEXT, b"short"))
        assert seen.incomingWebSocketFrames == 2

    run(story)


@pytest.mark.parametrize("answer", [encoded(TEXT, b"busy"), b""], ids=["talks", "silent"])
def test_who_talks_is_not_cut_for_an_unanswered_ping(clock: Clock, answer: bytes) -> None:
    """As with autobahn: any frame shows that somebody is there."""

    async def story(line: Line) -> None:
        line.protocol.last_ping = 0
        line.protocol.check_timeouts()
        assert decoded(line.said())[0][0] == PING
        if answer:
            line.tell(answer)
        clock.advance(PING_TIMEOUT_S + 1)
        assert line.transport.connected == bool(answer)

    run(story)


# ------------------------------------------------------------------ sending


@given(
    st.lists(st.one_of(TEXTS.filter(bool).map(bytes.decode), st.binary(min_size=1, max_size=200)), max_size=8)
)
@example(["x" * size for size in (1, 125, 126, 65535, 65536)])
@settings(max_examples=50)
def test_client_is_told_what_was_sent(messages: list[str | bytes]) -> None:
    async def story(line: Line) -> None:
        for message in messages:
            kind = "text" if isinstance(message, str) else "bytes"
            await line.ear.send({"type": "websocket.send", kind: message})
        line.tell(encoded(PING, b"p"))
        told = decoded(line.said())
        assert told == [
            *((TEXT, said.encode()) if isinstance(said, str) else (BINARY, said) for said in messages),
            (PONG, b"p"),
        ]

    run(story)


def test_nothing_is_sent_once_it_closes() -> None:
    async def story(line: Line) -> None:
        await line.ear.send({"type": "websocket.close", "code": 4000})
        await line.ear.send({"type": "websocket.send", "text": "late"})
        assert decoded(line.said()) == [(CLOSE, (4000).to_bytes(2, "big"))]

    run(story)


# ------------------------------------------------------------------ what it rests on


def test_autobahn_has_what_the_fast_path_relies_on() -> None:
    async def story(line: Line) -> None:
        names = re.findall(r"`(\w+)`", FastPath.__doc__ or "")
        assert names
        missing = [name for name in names if not hasattr(line.protocol, name)]
        assert not missing, (
            f"autobahn {version('autobahn')} has no {', '.join(missing)} any more, which voicedemo/frames.py "
            "relies on: read how it receives and sends now, and change FastPath, or take an older autobahn"
        )

    run(story, WebSocketProtocol)
