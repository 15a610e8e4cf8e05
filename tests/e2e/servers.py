"""The real servers of a test run, as child processes: the sandbox, and the site as shipped (DEBUG off)."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import psutil

from tests.environment import is_ours

ROOT = Path(__file__).parents[2]

RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or secrets.token_hex(8)
"""All processes of a test run have the same."""


def environment(**extra: str) -> dict[str, str]:
    """The machine's environment without anything that configures this product, plus `extra`."""
    kept = {name: value for name, value in os.environ.items() if not is_ours(name)}
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


@dataclass
class Server:
    """A child process whose output goes to a log file; `stop` ends it and everything it started."""

    process: subprocess.Popen[str]
    log: Path

    def stop(self, patience_s: float = 10) -> int:
        """Ask it to end, and insist after `patience_s`. Returns the exit status."""
        tree = []
        if self.process.poll() is None:
            tree = psutil.Process(self.process.pid).children(recursive=True)
            self.process.terminate()
            try:
                self.process.wait(patience_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
        for orphan in tree:
            if orphan.is_running():
                orphan.kill()
        if self.process.stdout:
            self.process.stdout.close()
        return self.process.wait(patience_s)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@dataclass
class Sandbox(Server):
    base_url: str = ""
    api_key: str = field(default="", repr=False)
    agent_id: str = ""
    livekit_url: str = ""

    @property
    def livekit(self) -> psutil.Process:
        """The media server that the sandbox runs."""
        return next(
            child for child in self.children() if "livekit" in child.name() or "server" in child.name()
        )


def start_sandbox(folder: Path, *, patience_s: float = 900, **env: str) -> Sandbox:
    """Start `python -m sandbox` and wait for its line. `patience_s` allows for building the media server."""
    log = folder / "sandbox.log"
    with log.open("a") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sandbox", "--data", str(folder / "sandbox")],
            cwd=ROOT,
            env=environment(**env),
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
    server = Sandbox(process, log)
    assert process.stdout is not None
    line = first_line(process.stdout, patience_s)
    if not line:
        server.stop()
        raise RuntimeError(f"The sandbox did not start:\n{log.read_text()}")
    ready = json.loads(line)
    server.base_url, server.api_key = ready["base_url"], ready["api_key"]
    server.agent_id, server.livekit_url = ready["agent_id"], ready["livekit_url"]
    return server


def first_line(stream: IO[str], patience_s: float) -> str:
    """The first line of a pipe, or "" if it closes or says nothing for `patience_s`."""
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(stream.readline()), daemon=True)
    reader.start()
    reader.join(patience_s)
    return got[0] if got else ""


@dataclass
class Site(Server):
    """The site's server. While it is down its port stays taken: who connects meanwhile waits in the socket
    for the next one, as behind a supervisor that holds the socket (or see `release_port`)."""

    url: str = ""
    env: dict[str, str] = field(default_factory=dict, repr=False)
    listener: socket.socket | None = field(default=None, repr=False)

    def manage(self, *words: str) -> str:
        """Run a management command against this site's database; returns what it prints."""
        return manage(self.env, *words)

    def end(self, number: int = signal.SIGTERM, patience_s: float = 10) -> int:
        """Send it a signal and wait for its end; `start` starts the next one. Returns the exit status.

        Raises subprocess.TimeoutExpired when it still runs after `patience_s`.
        """
        self.process.send_signal(number)
        return self.process.wait(patience_s)

    def start(self) -> None:
        """Start it again after its end, at the same address and with the same settings."""
        if self.listener is None:
            self.listener = listen(urlsplit(self.url).port or 0)
        self.process = serve(self.listener, self.log, self.env)

    def release_port(self) -> None:
        """From its end to the next `start`, who connects is refused, as where nothing holds the socket."""
        if self.listener is not None:
            self.listener.close()
            self.listener = None

    def stop(self, patience_s: float = 10) -> int:
        self.release_port()
        return super().stop(patience_s)


def site_environment(folder: Path, **env: str) -> dict[str, str]:
    """The site's environment as in production, but for HTTPS: a loopback address has no certificate.

    `env` says which platform it talks to (VATEL_*), and what is to be otherwise.
    """
    defaults = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "ALLOWED_HOSTS": "127.0.0.1",
        "HTTPS": "0",
        "DATABASE_PATH": str(folder / "db.sqlite3"),
        # All browsers of a test run have one address.
        "MAX_CALLS": "1000",
        "MAX_CALLS_PER_ADDRESS": "1000",
        "MAX_STARTS": "100000",
        "MAX_STARTS_PER_VISITOR": "100000",
        "MAX_STARTS_PER_ADDRESS": "100000",
    }
    return environment(**{**defaults, **env})


def start_site(folder: Path, sandbox: Sandbox, **env: str) -> Site:
    """Start a site that talks to this sandbox, with everything that browsers load."""
    platform = {
        "VATEL_BASE_URL": sandbox.base_url,
        "VATEL_API_KEY": sandbox.api_key,
        "VATEL_AGENT_IDS": sandbox.agent_id,
        "VATEL_MEDIA_ORIGINS": sandbox.livekit_url,
    }
    environ = site_environment(folder, **{**platform, **env})
    collect_static(environ)
    return open_site(folder, environ)


def collect_static(environ: dict[str, str]) -> None:
    """Put everything that browsers load into its place: once for all processes of a test run."""
    place = ROOT / "staticfiles"
    place.mkdir(exist_ok=True)
    with (place / ".collected").open("a+") as stamp:
        fcntl.flock(stamp, fcntl.LOCK_EX)
        stamp.seek(0)
        if stamp.read() == RUN:
            return
        manage(environ, "collectstatic", "--noinput", "--verbosity", "0")
        stamp.truncate(0)
        stamp.write(RUN)


def open_site(folder: Path, environ: dict[str, str]) -> Site:
    """Migrate, and start the server on a port of its own. Early connections wait in its socket."""
    folder.mkdir(parents=True, exist_ok=True)
    manage(environ, "migrate", "--verbosity", "0")
    log, listener = folder / "site.log", listen(0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    return Site(serve(listener, log, environ), log, url=url, env=environ, listener=listener)


def manage(environ: dict[str, str], *words: str) -> str:
    """Run a management command in a site's environment; returns what it prints on stdout."""
    command = [sys.executable, "manage.py", *words]
    return subprocess.run(
        command, cwd=ROOT, env=environ, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def listen(port: int) -> socket.socket:
    """A listening socket, bound here and not by the server: no race for the port. 0: any free one."""
    # Room for all sockets of a load test that come back at once.
    return socket.create_server(("127.0.0.1", port), backlog=4096)


def serve(listener: socket.socket, log: Path, environ: dict[str, str], *words: str) -> subprocess.Popen[str]:
    """The site's server as a child process that answers at `listener`, with further options if need be."""
    command = [sys.executable, "-m", "voicedemo.server", "--fd", str(listener.fileno()), "--access-log", "-"]
    with log.open("a") as output:
        return subprocess.Popen(
            [*command, *words],
            cwd=ROOT,
            env=environ,
            stdout=output,
            stderr=output,
            text=True,
            pass_fds=[listener.fileno()],
        )
