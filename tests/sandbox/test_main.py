"""`python -m sandbox` as a whole: real models, a real media server, a process of its own."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

ROOT = Path(__file__).parents[2]
STARTS_WITHIN_S = 120  # the models load slowly on a busy machine
ENDS_WITHIN_S = 10  # 5 are promised, to a process that is given time to run

launched: "list[subprocess.Popen[str]]" = []


@dataclass
class Sandbox:
    process: "subprocess.Popen[str]"
    base_url: str
    api_key: str
    agent_id: str
    livekit_url: str

    @classmethod
    def start(cls, data: Path, *options: str, env: Mapping[str, str] | None = None) -> "Sandbox":
        process = launch(data, *options, env=env)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            process.wait(timeout=30)
            pytest.fail(f"the sandbox did not start:\n{log_of(data)}")
        return cls(process, **json.loads(line))

    def ask(self, path: str, body: Any = None) -> tuple[int, Any]:
        answer = httpx.request(
            "GET" if body is None else "POST",
            self.base_url + path,
            json=body,
            headers={"Authorization": f"Bearer {self.api_key}"},
            timeout=20,
            trust_env=False,
        )
        return answer.status_code, answer.json()

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Exit code, and what it wrote on stdout after its first line."""
        self.process.send_signal(sign)
        rest, _ = self.process.communicate(timeout=ENDS_WITHIN_S)
        return self.process.returncode, rest


def launch(data: Path, *options: str, env: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    data.mkdir(parents=True, exist_ok=True)
    with (data / "log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sandbox", "--data", str(data), *options],
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    launched.append(process)
    return process


def log_of(data: Path) -> str:
    return (data / "log").read_text()


def refusal(data: Path, *options: str, env: Mapping[str, str] | None = None) -> str:
    """What a sandbox that must not start says: one line on stderr, nothing on stdout, exit code 1."""
    process = launch(data, *options, env=env)
    out, _ = process.communicate(timeout=60)
    said = log_of(data).splitlines()
    assert (process.returncode, out, len(said)) == (1, "", 1), said
    return said[0]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


@pytest.fixture(autouse=True)
def _end_what_a_failed_test_left() -> Iterator[None]:
    yield
    for process in launched:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children():
                child.kill()
            process.kill()
        process.communicate()
    launched.clear()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_a_life(data: Path) -> None:
    sandbox = Sandbox.start(
        data, env={"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    )
    parent = psutil.Process(sandbox.process.pid)
    (livekit,) = parent.children(recursive=True)

    status, answer = sandbox.ask("/v1/agents")
    assert (status, [(a["id"], a["name"], a["status"]) for a in answer["agents"]]) == (
        200,
        [(sandbox.agent_id, "Concierge", "ready")],
    )
    assert answer["agents"][0]["first_message"]

    status, credential = sandbox.ask(
        "/v1/session-token", {"agent_id": sandbox.agent_id, "transport": "webrtc"}
    )
    assert (status, credential["url"]) == (200, sandbox.livekit_url)
    (call,) = sandbox.ask("/v1/calls")[1]["calls"]
    assert (call["status"], call["room"]) == ("connected", credential["room"])

    listening = [
        (c.laddr.ip, c.laddr.port)
        for process in (parent, livekit)
        for c in process.net_connections()
        # UDP of the media server listens too; ours is that of a caller, which WebRTC opens for each call.
        if c.status == psutil.CONN_LISTEN or (process is livekit and c.type == socket.SOCK_DGRAM)
    ]
    assert {ip for ip, _ in listening} == {"127.0.0.1"}
    for url in (sandbox.base_url, sandbox.livekit_url):
        assert ("127.0.0.1", int(url.rpartition(":")[2])) in listening

    secrets = json.loads((data / "keys.json").read_text())
    assert stat.S_IMODE((data / "keys.json").stat().st_mode) == 0o600
    arguments = " ".join(parent.cmdline() + livekit.cmdline())
    for secret in [*secrets.values(), credential["webrtc_token"], credential["token"]]:
        assert secret not in arguments + log_of(data)

    # With a call whose caller has not come yet, which the agent still waits for.
    assert sandbox.stop() == (0, "")
    assert not livekit.is_running()

    again = Sandbox.start(data)
    assert (again.api_key, again.agent_id) == (sandbox.api_key, sandbox.agent_id)
    status, record = again.ask(f"/v1/calls/{call['id']}")
    assert (status, record["status"], record["transcript"]["entries"]) == (200, "ended", [])
    assert record["termination_reason"] == "sandbox_stopped"
    assert again.stop(signal.SIGHUP) == (0, "")


def test_calls_can_be_taken_again_after_livekit_has_died(data: Path) -> None:
    sandbox = Sandbox.start(data)
    (livekit,) = psutil.Process(sandbox.process.pid).children(recursive=True)
    livekit.kill()
    mint = {"agent_id": sandbox.agent_id, "transport": "webrtc"}
    statuses = set()

    def minted() -> bool:
        statuses.add(sandbox.ask("/v1/session-token", mint)[0])
        return 200 in statuses

    until(minted)
    assert statuses <= {200, 503}
    assert "it has ended (exit code -9)" in log_of(data)
    assert sandbox.stop() == (0, "")


def test_it_can_be_stopped_while_it_starts(data: Path) -> None:
    process = launch(data)
    until(lambda: bool(psutil.Process(process.pid).children()))
    (livekit,) = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=ENDS_WITHIN_S)
    assert (process.returncode, out) == (0, "")
    assert not livekit.is_running()


def test_what_is_given_is_used_and_a_second_sandbox_is_told_what_is_taken(data: Path) -> None:
    port, livekit_port = free_ports()
    options = ("--port", str(port), "--livekit-port", str(livekit_port), "--max-calls", "1")
    sandbox = Sandbox.start(data, *options, env={"SANDBOX_API_KEY": "a-key-that-was-given"})
    assert (sandbox.base_url, sandbox.livekit_url, sandbox.api_key) == (
        f"http://127.0.0.1:{port}",
        f"ws://127.0.0.1:{livekit_port}",
        "a-key-that-was-given",
    )
    mint = {"agent_id": sandbox.agent_id, "transport": "webrtc"}
    assert [sandbox.ask("/v1/session-token", mint)[0] for _ in range(2)] == [200, 503]

    other = data.parent
    assert "is in use by another sandbox" in refusal(other / "1", "--data", str(data))
    assert f"Port {port} cannot be used" in refusal(other / "2", "--port", str(port))
    assert f"Port {livekit_port} is in use" in refusal(other / "3", "--livekit-port", str(livekit_port))
    assert sandbox.stop() == (0, "")


@pytest.mark.parametrize(
    ("options", "env", "words"),
    [
        (["--port", "70000"], {}, "'70000' is not a port from 0 to 65535"),
        (["--port", "9999", "--livekit-port", "9999"], {}, "--port and --livekit-port must differ"),
        (["--max-calls", "0"], {}, "'0' is not a number from 1 on"),
        (["--colour"], {}, "unrecognized arguments: --colour"),
        (["--data", __file__], {}, f"The data folder {__file__} cannot be written"),
        ([], {"AGENT_LLM_MODEL": "m"}, "Missing: AGENT_LLM_BASE_URL, AGENT_LLM_API_KEY."),
        ([], {"SANDBOX_API_KEY": "two words"}, "SANDBOX_API_KEY must be of printable ASCII characters"),
        ([], {"LIVEKIT_SERVER": "/no/such/file"}, "LIVEKIT_SERVER names /no/such/file"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, options: list[str], env: dict[str, str], words: str
) -> None:
    assert words in refusal(tmp_path, *options, env=env)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("keys.json", '{"api_key": "only"}', "keys.json is damaged. Delete it"),
        ("keys.json", None, "keys.json cannot be used: Is a directory."),
        ("calls.db", "not a database " * 99, "calls.db cannot be used: file is not a database. Delete it"),
    ],
)
def test_what_is_damaged_in_the_data_folder_is_named(
    tmp_path: Path, name: str, content: str | None, words: str
) -> None:
    if content is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text(content)
    assert f"{tmp_path}/{words}" in refusal(tmp_path)
