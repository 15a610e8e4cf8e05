"""A fast path for the usual WebSocket frame: a whole text. autobahn does all the rest.

What pages and site tell each other are short texts, nearly all in one frame each. autobahn's parser, which
copes with any frame in any pieces, takes some 54 µs for such a frame, and its sender some 10: half of what
the server's main thread does under load.

The format is in https://datatracker.ietf.org/doc/html/rfc6455#section-5.2; the words are from there.
"""

from typing import Any

from daphne.ws_protocol import WebSocketProtocol

FIN_TEXT = 0x81
"""The first byte of a text's only frame: FIN, no RSV bit, opcode 1."""

MASK = 0x80
"""In the second byte, beside the payload's length. Set by clients, and never by servers."""

LENGTH_16 = 126
"""In place of the length, which is in the next two bytes then. Lengths below it must not be written so."""

LONGEST = 0xFFFF
"""Octets that two bytes can tell of."""


class FastPath(WebSocketProtocol):  # type: ignore[misc]  # Daphne has no types
    """Daphne's, which hears the same messages in the same order, and says the same.

    Relies on these of autobahn, beside public callbacks: `state`, `data` (octets not parsed yet),
    `current_frame` (one that has begun), `inside_message` (one that is fragmented), `autoPingTimeoutCall`
    (for a ping without an answer), `send_queue` (octets not written yet), and the options
    `maxMessagePayloadSize` and `maxFramePayloadSize`.
    """

    longest = 0
    """Octets of a usual payload, at most."""

    def onOpen(self) -> None:  # noqa: N802
        # autobahn's are 0 where there is no limit.
        limits = (LONGEST, self.maxMessagePayloadSize, self.maxFramePayloadSize)
        self.longest = min(limit for limit in limits if limit)
        super().onOpen()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        # While a ping is unanswered, autobahn takes any frame for an answer, so it must see them.
        if self.state == self.STATE_OPEN and not (
            self.data or self.current_frame or self.inside_message or self.autoPingTimeoutCall
        ):
            payloads, rest = whole_texts(data, self.longest)
            for payload in payloads:
                self.onMessage(payload, False)
            if not rest:
                return
            data = rest
        super().dataReceived(data)

    def sendMessage(self, payload: bytes, isBinary: bool = False, **options: Any) -> None:  # noqa: N802, N803
        size = len(payload)
        if isBinary or options or self.state != self.STATE_OPEN or self.send_queue or size > self.longest:
            super().sendMessage(payload, isBinary, **options)
        elif size < LENGTH_16:
            self.transport.write(bytes((FIN_TEXT, size)) + payload)
        else:
            self.transport.write(bytes((FIN_TEXT, LENGTH_16)) + size.to_bytes(2) + payload)


def whole_texts(data: bytes, longest: int) -> tuple[list[bytes], bytes]:
    """The texts with which a client's octets begin, up to the first frame that is not usual; and the rest."""
    payloads, at, end = [], 0, len(data)
    while end - at >= 6 and data[at] == FIN_TEXT and data[at + 1] & MASK:
        size, key = data[at + 1] - MASK, at + 2
        if size > LENGTH_16:
            break
        if size == LENGTH_16:
            size, key = int.from_bytes(data[at + 2 : at + 4]), at + 4
            if size < LENGTH_16:
                break
        start = key + 4
        stop = start + size
        if size > longest or stop > end:
            break
        # One XOR of two long numbers costs less than one for each octet.
        mask = data[key:start] * (size // 4 + 1)
        payload = (int.from_bytes(data[start:stop]) ^ int.from_bytes(mask[:size])).to_bytes(size)
        try:
            payload.decode()
        except UnicodeDecodeError:
            break
        payloads.append(payload)
        at = stop
    return payloads, data[at:]
