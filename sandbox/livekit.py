"""The LiveKit server: run on loopback only, and never left behind.

`python -m sandbox.livekit` finds or builds it and prints its path.
"""

import asyncio
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import aiohttp
from livekit import api

from sandbox.livekit_binary import VERSION, LiveKitError, find

# Sets Linux's parent-death signal, then becomes the server: killed or crashed, we leave no server behind. In
# a process of its own, because Python code between fork and exec (preexec_fn) can deadlock in a process
# with threads, and ours has many. Elsewhere a SIGKILL of this process leaves the server running.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

_log = logging.getLogger(__name__)


class LiveKitServer:
    """The server as our child: started, started again when it dies, ended with us."""

    def __init__(self, binary: Path, key: str, secret: str, port: int = 0) -> None:
        """`port` is that of the signalling; 0 means a free one. `secret` has at least 32 bytes."""
        self._binary = binary
        self._key = key
        self._secret = secret
        self._chosen = port == 0
        self.port = port or _free_port(socket.SOCK_STREAM)
        self.udp_port = _free_port(socket.SOCK_DGRAM)
        self._process: asyncio.subprocess.Process | None = None
        self._printing: asyncio.Task[str] | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where callers and agents connect to, a ws:// URL."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start it and return when it takes calls with our key. Raises LiveKitError."""
        for attempts_left in (2, 1, 0):
            if not _is_free(self.port, socket.SOCK_STREAM) and not self._chosen:
                raise LiveKitError(
                    f"Port {self.port} is in use. End what uses it, or give another --livekit-port."
                )
            try:
                await self._launch()
                break
            except LiveKitError:
                await self._end_process()
                # A port that we chose may have been taken by another process in the meantime.
                if not self._chosen or not attempts_left:
                    raise
                self.port, self.udp_port = _free_port(socket.SOCK_STREAM), _free_port(socket.SOCK_DGRAM)
        self._watching = asyncio.create_task(self._watch(), name="livekit-watch")

    async def stop(self) -> None:
        """End it, within 1 s."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        await self._end_process()

    async def _launch(self) -> None:
        command = [str(self._binary)]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *command,
                # The configuration travels in the environment: every user of the machine can read arguments.
                env=_environment(json.dumps(self._config())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                limit=1 << 20,
                start_new_session=True,  # Ctrl-C is for us; we end it after the calls
            )
        except OSError as problem:
            raise LiveKitError(f"livekit-server cannot be started: {problem}.") from problem
        self._printing = asyncio.create_task(_print_lines(process), name="livekit-output")
        ended = asyncio.create_task(process.wait())
        ready = asyncio.create_task(self._wait_ready())
        try:
            await asyncio.wait({ended, ready}, timeout=15, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise LiveKitError(await self._early_end(await self._printing))
            if not ready.done():
                raise LiveKitError(f"livekit-server is not ready on port {self.port} after 15 s.")
            ready.result()
        except LiveKitError:
            with suppress(ProcessLookupError):
                process.kill()  # whoever watches it waits for its end
            raise
        finally:
            ended.cancel()
            ready.cancel()

    async def _early_end(self, last_line: str) -> str:
        """Why it may have ended. It exits with 0 when a port is taken, so the code says nothing."""
        version = await asyncio.to_thread(_version, self._binary)
        if version == VERSION:
            guess = "Is another program using one of the ports?"
        else:
            guess = f"This is version {version} at {self._binary}; {VERSION} is known to work."
        return (
            f"livekit-server ended at once (HTTP port {self.port}, UDP port {self.udp_port})."
            f" Its last words: {last_line or 'none'}. {guess}"
        )

    def _config(self) -> dict[str, object]:
        return {
            "port": self.port,
            "bind_addresses": ["127.0.0.1"],
            "rtc": {
                "tcp_port": 0,  # left out it would be 7881, on every interface
                "udp_port": self.udp_port,
                "node_ip": "127.0.0.1",
                "use_external_ip": False,
                "enable_loopback_candidate": True,
                "interfaces": {"includes": ["lo0" if sys.platform == "darwin" else "lo"]},
                # With none given it names public servers to every client, which then ask DNS for them. Any
                # loopback port will do but the server's own: with that one no call connects.
                "stun_servers": ["127.0.0.1:3478"],
            },
            "keys": {self._key: self._secret},
            "room": {"auto_create": True, "empty_timeout": 30, "departure_timeout": 5},
            "logging": {
                "level": "warn",
                "pion_level": "error",
                # Each caller who hangs up would be three lines about channels that closed.
                "component_levels": {"transport": "error"},
            },
        }

    async def _wait_ready(self) -> None:
        url = f"http://127.0.0.1:{self.port}"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as http:
            while True:
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with http.get(url) as answer:
                        if answer.status == 200:
                            break
                await asyncio.sleep(0.02)
            # Another LiveKit server on the port would have answered just so; only ours takes our key.
            async with api.LiveKitAPI(url, self._key, self._secret, session=http) as livekit:
                try:
                    await livekit.room.list_rooms(api.ListRoomsRequest())
                except (aiohttp.ClientError, TimeoutError) as problem:
                    raise LiveKitError(
                        f"livekit-server stopped answering on port {self.port}"
                        f" ({problem or type(problem).__name__})."
                    ) from problem
                except api.TwirpError as problem:
                    raise LiveKitError(
                        f"A LiveKit server that is not ours answers on port {self.port}."
                    ) from problem

    async def _watch(self) -> None:
        pause = 0.5
        while self._process is not None:
            started = time.monotonic()
            code = await self._process.wait()
            if time.monotonic() - started > 60:
                pause = 0.5
            _log.error("it has ended (exit code %s); starting it again in %.1f s", code, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 30)
            try:
                await self._launch()
            except LiveKitError as problem:
                _log.error("%s", problem)
                continue
            _log.warning("it runs again")

    async def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # It waits for participants after the first SIGTERM and stops at the second.
        for sign in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                process.send_signal(sign)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 0.3)
                return


def _environment(config: str) -> dict[str, str]:
    """Of ours only what a Python may need to start: the server would also obey REDIS_HOST, NODE_IP, ..."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "LIVEKIT_CONFIG": config}


def _version(binary: Path) -> str:
    """Which version the server says that it is; "unknown" when it does not."""
    try:
        answer = subprocess.run(
            [binary, "--version"],
            env=_environment(""),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=5,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return "unknown"
    found = re.search(r"\bversion v?(\d\S*)", answer.stdout)
    return found[1] if found else "unknown"


async def _print_lines(process: asyncio.subprocess.Process) -> str:
    """Its words, into our log; returns the last line."""
    last = ""
    assert process.stdout is not None  # noqa: S101 - a pipe, see _launch
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:
            continue  # longer than the limit, and dropped by the reader; the next line is whole again
        if not line:
            return last
        last = line.decode(errors="replace").rstrip()
        _log.warning("%s", last)


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_free(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        # Connections that have just ended must not count as use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


if __name__ == "__main__":
    for _signal in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(_signal, lambda *_: sys.exit(1))
    try:
        print(find())  # noqa: T201 - the answer
    except LiveKitError as problem:
        sys.exit(str(problem))
    except KeyboardInterrupt:
        sys.exit(1)
