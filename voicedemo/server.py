"""The site's server: Daphne, with an orderly end and a limit to what a reader that stalls may pile up.

python -m voicedemo.server [-b ADDRESS] [-p PORT]      and Daphne's other options
"""

# Daphne's own module comes first: it decides which event loop Twisted runs on.
from daphne.server import Server as Daphne  # isort: skip

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import sys
from typing import Any

from daphne.cli import CommandLineInterface
from django.urls import reverse
from twisted.internet import defer, reactor
from twisted.python.failure import Failure

from voicedemo.frames import FastPath
from voicedemo.replies import Reply

# Its module is __main__.
logger = logging.getLogger("voicedemo.server")

APPLICATION = "voicedemo.asgi:application"

DRAIN_S = 4.5
"""From the signal: for what is in flight. What hangs is cut off then; supervisors kill after 5 s or more."""

END_S = 4.9
"""From the signal: for everything, whatever hangs, be it the event loop itself."""

UNREAD_LIMIT = 1024 * 1024
"""Characters that may wait for a WebSocket's reader, beyond what the system's buffers hold."""

RESTART = 1012
"""The WebSocket close code of a server that restarts. Applications cannot send it, but servers can."""


class WebSocket(FastPath):
    """Daphne's, which writes into memory without end when the other side does not read.

    Whoever writes is never made to wait: the log's writer tells one page after the other, and must not stop
    at one that stalls. Such a socket is cut instead. Its page, if there is still one, comes back and is told
    again; what the log holds does not depend on who reads.
    """

    unread: int | None = None
    """What was written since the transport is full; None while it is not."""

    def onOpen(self) -> None:  # noqa: N802
        # Until the upgrade, the HTTP channel was the transport's producer.
        self.unregisterProducer()
        self.registerProducer(self, True)
        super().onOpen()

    def pauseProducing(self) -> None:  # noqa: N802
        """The transport is full; told again at each further write. Nothing is read either, as it would only
        be answered."""
        if self.unread is None:
            self.unread = 0
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:  # noqa: N802
        """The transport is empty again."""
        self.unread = None
        self.transport.resumeProducing()

    def stopProducing(self) -> None:  # noqa: N802
        """The connection is gone, which is told to onClose as well."""

    def serverSend(self, content: str | bytes, binary: bool = False) -> None:  # noqa: N802
        if self.state != self.STATE_OPEN:
            # Closing, which the application may not have heard of yet; autobahn would raise.
            return
        super().serverSend(content, binary)
        if self.unread is not None:
            self.unread += len(content)
            if self.unread > UNREAD_LIMIT:
                self.unread = None
                logger.warning("cut a WebSocket at %s, as its other side does not read", self.request.path)
                self.dropConnection(abort=True)


class Server(Daphne):  # type: ignore[misc]  # Daphne has no types
    """Daphne, which by itself cuts its sockets at SIGTERM, with whatever they had in flight."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # Its own handlers would take a second signal for an error, and a first one in time for none.
        super().__init__(*arguments, signal_handlers=False, ready_callable=self.prepare, **options)
        self.ports: list[Any] = []
        self.refusal = ""

    def run(self) -> None:
        """Serves until a signal comes. Raises SystemExit when it cannot listen."""
        super().run()
        if self.refusal:
            sys.exit(self.refusal)

    def prepare(self) -> None:
        """Called when everything is there, before the first connection is taken."""
        self.ws_factory.protocol = WebSocket
        build = self.http_factory.buildProtocol

        def build_with_replies(address: Any) -> Any:
            protocol = build(address)
            protocol.requestFactory = Reply
            return protocol

        self.http_factory.buildProtocol = build_with_replies
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.end)
        # All addresses with their views are loaded now, for which the first visitor need not wait; and the
        # garbage collector need not look through what stays, which would stop all calls for 0.1 s each time.
        reverse("admin:index")
        gc.collect()
        gc.freeze()

    def end(self, *_: object) -> None:
        """The first signal ends it in order, the second at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        # From a thread of its own that needs nothing from Python; it leaves all threads' tracebacks.
        faulthandler.dump_traceback_later(END_S, exit=True)
        reactor.callFromThread(self.stop)

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        """What the application awaits when it sends."""
        await super().handle_reply(protocol, message)
        if isinstance(protocol, Reply):
            await protocol.written()

    def listen_success(self, port: Any) -> None:
        self.ports.append(port)
        super().listen_success(port)

    def listen_error(self, failure: Failure) -> None:
        error = getattr(failure.value, "socketError", failure.value)
        reason = error.strerror if isinstance(error, OSError) else failure.getErrorMessage()
        self.refusal = (
            f"voicedemo: cannot listen at {', '.join(self.endpoints)} ({reason}); "
            "name another place with -b and -p, -u, or --fd"
        )
        self.stop()

    def kill_all_applications(self) -> "defer.Deferred[None]":
        """Called by Daphne before the reactor ends, which waits for it."""
        return defer.Deferred.fromFuture(asyncio.ensure_future(self.drain()))

    async def drain(self) -> None:
        """Takes no new connections; what is in flight is stored and answered; what is left is cut."""
        try:
            for port in self.ports:
                port.stopListening()
            async with asyncio.timeout(DRAIN_S):
                await self.finish()
        except TimeoutError:
            sockets, applications = len(self.unclosed()), len(self.running())
            logger.warning("cut %s sockets and %s applications after %s s", sockets, applications, DRAIN_S)
        except Exception:
            # Whatever it is, the process ends; and Twisted would keep the reason to itself.
            logger.exception("the server could not end in order")
        finally:
            for task in self.running():
                task.cancel()
            # Some turns of the loop: for them to notice, and for what lies in the transports to leave.
            await asyncio.sleep(0.1)

    async def finish(self) -> None:
        # Not at the top: models can be imported only when the application has loaded the apps.
        from sessions_app import relay

        await relay.drain()
        # Every socket waits for the other side's close frame: before it, what still comes from there would
        # make the system reset the connection, and the close code be lost with it.
        while (sockets := self.unclosed()) or self.running():
            for socket in sockets:
                if socket.state == WebSocket.STATE_OPEN:
                    socket.sendCloseFrame(code=RESTART)  # it came too late to be drained
            await asyncio.sleep(0.02)

    def unclosed(self) -> list[WebSocket]:
        return [
            protocol
            for protocol, details in self.connections.items()
            if isinstance(protocol, WebSocket) and "disconnected" not in details
        ]

    def running(self) -> "list[asyncio.Task[None]]":
        """The applications that are at work: one for each socket, and for each HTTP request."""
        tasks = (details.get("application_instance") for details in self.connections.values())
        return [task for task in tasks if task and not task.done()]

    def log_action(self, protocol: str, action: str, details: dict[str, Any]) -> None:
        """For the access log, which is to hold addresses without what was asked there."""
        super().log_action(protocol, action, {**details, "path": details["path"].partition("?")[0]})


class CommandLine(CommandLineInterface):  # type: ignore[misc]  # Daphne has no types
    """Daphne's options, with defaults for this site."""

    description = "Serves the site: HTTP and WebSockets, with a drain at SIGTERM."
    server_class = Server

    def __init__(self) -> None:
        super().__init__()
        self.parser.prog = "python -m voicedemo.server"
        # Quiet: who wants the access log asks for it (--access-log -). After a restart all pages come back at
        # once: a handshake may take longer than 5 s.
        self.parser.set_defaults(verbosity=0, websocket_connect_timeout=20)
        # argparse has no other way to make it optional afterwards.
        application = next(action for action in self.parser._actions if action.dest == "application")
        application.nargs, application.required, application.default = "?", False, APPLICATION


def main() -> None:
    CommandLine().run(sys.argv[1:])
    # At exit, Python waits for its threads, and one may be in a tool that takes its time.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
