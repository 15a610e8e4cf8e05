"""The real servers of a test run, as child processes: the sandbox, and the site as shipped (DEBUG off)."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from tests.environment import is_ours

ROOT = Path(__file__).parents[2]


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
    url: str = ""
    env: dict[str, str] = field(default_factory=dict, repr=False)

    def manage(self, *words: str) -> str:
        """Run a management command against this site's database; returns what it prints."""
        command = [sys.executable, "manage.py", *words]
        return subprocess.run(
            command, cwd=ROOT, env=self.env, check=True, capture_output=True, text=True
        ).stdout


def site_environment(folder: Path, sandbox: Sandbox, **env: str) -> dict[str, str]:
    """The site's environment as in production, but for HTTPS: a loopback address has no certificate."""
    defaults = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "ALLOWED_HOSTS": "127.0.0.1",
        "HTTPS": "0",
        "DATABASE_PATH": str(folder / "db.sqlite3"),
        "VATEL_BASE_URL": sandbox.base_url,
        "VATEL_API_KEY": sandbox.api_key,
        "VATEL_AGENTS": f"{sandbox.agent_id}=Concierge",
        "VATEL_MEDIA_ORIGINS": sandbox.livekit_url,
    }
    return environment(**{**defaults, **env})


def start_site(folder: Path, sandbox: Sandbox, **env: str) -> Site:
    """Migrate and start Daphne on a port of its own. The socket is bound here: no race for the port, and no
    waiting either, as early connections queue in it."""
    folder.mkdir(parents=True, exist_ok=True)
    environ = site_environment(folder, sandbox, **env)
    for command in (["migrate", "--verbosity", "0"], ["collectstatic", "--noinput", "--verbosity", "0"]):
        subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=environ, check=True)
    log = folder / "daphne.log"
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener, log.open("a") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "daphne", "--fd", str(listener.fileno()), "voicedemo.asgi:application"],
            cwd=ROOT,
            env=environ,
            stdout=output,
            stderr=output,
            text=True,
            pass_fds=[listener.fileno()],
        )
        port = listener.getsockname()[1]
    return Site(process, log, url=f"http://127.0.0.1:{port}", env=environ)
