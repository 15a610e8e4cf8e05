"""A LiveKit server of the tests' own: it can be killed, brought back and stopped in the middle of a call."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from sandbox.livekit_binary import find
from tests.e2e.servers import Server

PATIENCE_S = 15


@dataclass
class MediaServer(Server):
    port: int = 0
    key: str = "tests"
    secret: str = field(default="", repr=False)
    config: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """End it as a crash does: whoever is in a call hears nothing of it."""
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def start(self) -> None:
        """Start it again after `kill`, at the same address; its rooms are forgotten."""
        self.process = launch(self.config, self.log)
        wait_ready(self)

    def freeze(self) -> None:
        """From now on it does nothing at all, as if its network were a hole."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self, patience_s: float = 10) -> int:
        # At SIGTERM it would wait for its participants.
        self.process.kill()
        return self.process.wait(patience_s)


def start_media_server(folder: Path) -> MediaServer:
    """Start one on free ports of the loopback. Raises RuntimeError with its log when it does not start."""
    folder.mkdir(parents=True, exist_ok=True)
    port, secret = free_port(socket.SOCK_STREAM), secrets.token_urlsafe(32)
    config = {
        "port": port,
        "bind_addresses": ["127.0.0.1"],
        "rtc": {
            "tcp_port": 0,  # left out it would be 7881, on every interface
            "udp_port": free_port(socket.SOCK_DGRAM),
            "node_ip": "127.0.0.1",
            "use_external_ip": False,
            "enable_loopback_candidate": True,
            "interfaces": {"includes": ["lo0" if sys.platform == "darwin" else "lo"]},
            "stun_servers": ["127.0.0.1:3478"],  # with none given, clients are sent to public ones
        },
        "keys": {"tests": secret},
        "room": {"auto_create": True, "empty_timeout": 30, "departure_timeout": 5},
        "logging": {"level": "info", "pion_level": "error"},
    }
    text, log = json.dumps(config), folder / "livekit.log"
    server = MediaServer(launch(text, log), log, port=port, secret=secret, config=text)
    wait_ready(server)
    return server


def launch(config: str, log: Path) -> subprocess.Popen[str]:
    with log.open("a") as output:
        return subprocess.Popen(
            [str(find())],
            env={"PATH": os.environ["PATH"], "LIVEKIT_CONFIG": config},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
        )


def wait_ready(server: MediaServer) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{server.port}", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    server.stop()
    raise RuntimeError(f"The media server did not start:\n{server.log.read_text()}")


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
