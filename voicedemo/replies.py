"""Long replies over HTTP: no faster than they are read, and never whole in appearance when they are not."""

import asyncio
import logging
from typing import Any

from daphne.http_protocol import WebRequest

logger = logging.getLogger(__name__)

STALL_S = 60
"""A reader that has not emptied the transport for so long is gone, whatever its system says."""


class Reply(WebRequest):  # type: ignore[misc]  # Daphne has no types
    """Daphne's, which writes into memory without end when the other side does not read.

    Who sends awaits `written` after each piece (see Server.handle_reply), so that a download of any size
    takes no more memory than its transport's buffer.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.is_writable = asyncio.Event()
        self.is_writable.set()

    def handle_reply(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start" and not self.producer and self.channel is not None:
            self.registerProducer(self, True)
        super().handle_reply(message)

    async def written(self) -> None:
        """Waits for a full transport to empty, but not for ever."""
        try:
            async with asyncio.timeout(STALL_S):
                await self.is_writable.wait()
        except TimeoutError:
            logger.warning("cut a reply at %s, as its other side does not read", self.path.decode())
            self.abort()

    def pauseProducing(self) -> None:  # noqa: N802
        """The transport is full."""
        self.is_writable.clear()

    def resumeProducing(self) -> None:  # noqa: N802
        """The transport is empty again."""
        self.is_writable.set()

    def stopProducing(self) -> None:  # noqa: N802
        """The connection is gone, which is told to connectionLost as well."""

    def finish(self) -> None:
        self._let_go()
        super().finish()

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        self._let_go()
        super().connectionLost(reason)

    def handle_exception(self, exception: BaseException) -> None:
        """What failed in the middle must not look complete. Daphne would begin a second reply in the first,
        and raise in the timer that looks after all connections.

        An orderly end of the connection is the end of the body for clients of HTTP/1.0, which proxies may be:
        so it is reset.
        """
        if not self._response_started:
            super().handle_exception(exception)
        else:
            self.abort()

    def abort(self) -> None:
        """Resets the connection, unless the reply is complete or the connection gone."""
        if self.channel is not None and not self.finished:
            self.channel.transport.abortConnection()

    def _let_go(self) -> None:
        if self.producer:
            self.unregisterProducer()
        self.is_writable.set()
