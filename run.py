"""What `make run` does once everything is installed: prepare, then hand over to honcho and the Procfile.

With `VATEL_BASE_URL` in the environment or in `.env` the site talks to that platform. Without it the
local one (sandbox/) is started beside it, on free ports, with a key made for this machine.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import zoneinfo
from collections.abc import Callable
from pathlib import Path

import httpx
from honcho.environ import parse

ROOT = Path(__file__).parent
VAR = ROOT / "var"
STAFF = VAR / "staff-account.txt"
CONCIERGE = "5a1c0e5e-0000-4000-8000-000000000001"  # the sandbox's agent


def main() -> None:
    if sys.argv[1:] == ["announce"]:
        announce()
        return
    os.chdir(ROOT)
    VAR.mkdir(exist_ok=True)
    env = {**read_env_file(), **os.environ, "PYTHONUNBUFFERED": "1"}
    env.setdefault("PORT", "8000")
    refuse_busy_port(env["PORT"])
    # By another name: honcho gives each process a PORT of its own.
    env["SITE_PORT"] = env["PORT"]
    env.setdefault("DEBUG", "1")
    env.setdefault("SECRET_KEY", kept_secret("secret-key"))
    # The restaurant is where this machine is: the site and the agent agree on what "tomorrow" means.
    env.setdefault("TIME_ZONE", local_zone())
    env["TZ"] = env["TIME_ZONE"]
    processes = ["site", "sweep", "ready"]
    if not env.get("VATEL_BASE_URL"):
        add_sandbox(env)
        processes.insert(0, "sandbox")
    django = [sys.executable, "manage.py"]
    for command in (["migrate", "--verbosity", "0"], ["staff_account", "--file", str(STAFF)]):
        if subprocess.run([*django, *command], env=env, stdout=sys.stderr).returncode:
            sys.exit(1)
    # A .env that honcho read again would win over what was decided here.
    honcho = [sys.executable, "-m", "honcho", "--env", os.devnull, "start", *processes]
    os.execve(sys.executable, honcho, env)


def read_env_file() -> dict[str, str]:
    path = ROOT / ".env"
    if not path.exists():
        return {}
    # An empty value in .env means "not set", as in .env.example.
    return {name: value for name, value in parse(path.read_text()).items() if value}


def refuse_busy_port(port: str) -> None:
    """Exit with a sentence when `port` is not a port, or something else listens there."""
    if not port.isdigit() or not 0 < int(port) < 65536:
        sys.exit(f"PORT must be a number from 1 to 65535, not {port!r}.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(port)))
        except OSError as problem:
            sys.exit(f"Port {port} cannot be used ({problem.strerror}). Choose another: make run PORT=8001")


def kept_secret(name: str) -> str:
    """A random secret of this machine, made once and kept in var/ (readable by its owner only)."""
    path = VAR / name
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(48))
    return path.read_text()


def local_zone() -> str:
    """The machine's time zone by its IANA name; UTC where it cannot be told."""
    name = os.environ.get("TZ", "") or os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2]
    return name if name in zoneinfo.available_timezones() else "UTC"


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return str(probe.getsockname()[1])


def add_sandbox(env: dict[str, str]) -> None:
    """Find or build the media server now, where its progress is seen, and tell the site about the sandbox."""
    if subprocess.run(
        [sys.executable, "-m", "sandbox.livekit"], env=env, stdout=subprocess.DEVNULL
    ).returncode:
        sys.exit(1)
    port, livekit_port = free_port(), free_port()
    key = kept_secret("sandbox-key")
    env |= {
        "SANDBOX_PORT": port,
        "SANDBOX_LIVEKIT_PORT": livekit_port,
        "SANDBOX_API_KEY": key,
        "VATEL_BASE_URL": f"http://127.0.0.1:{port}",
        "VATEL_API_KEY": key,
        "VATEL_AGENT_IDS": CONCIERGE,
        "VATEL_MEDIA_ORIGINS": f"ws://127.0.0.1:{livekit_port}",
    }


def announce() -> None:
    """Print the addresses and the login once both servers answer; stay, as honcho ends all when one ends."""
    site = f"http://127.0.0.1:{os.environ['SITE_PORT']}"
    wait_until(lambda: httpx.get(f"{site}/healthz", trust_env=False).is_success)
    if "SANDBOX_PORT" in os.environ:
        wait_until(is_agent_ready)
    lines = [
        "",
        f"Talk to the agent:  {site}/",
        f"Watch and review:   {site}/admin/   {STAFF.read_text().strip().replace(chr(10), ' · ')}",
        "Stop everything:    Ctrl-C",
        "",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    signal.pause()


def is_agent_ready() -> bool:
    agents = httpx.get(
        f"{os.environ['VATEL_BASE_URL']}/v1/agents",
        headers={"Authorization": f"Bearer {os.environ['VATEL_API_KEY']}"},
        trust_env=False,
    )
    return agents.is_success and agents.json()["agents"][0]["status"] == "ready"


def wait_until(condition: Callable[[], bool]) -> None:
    """Look five times a second; a server that does not answer yet is not there yet."""
    while True:
        try:
            if condition():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)


if __name__ == "__main__":
    main()
