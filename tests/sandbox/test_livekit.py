"""The LiveKit server: how the real one runs, dies and ends."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from livekit import api

from sandbox.livekit import LiveKitServer
from sandbox.livekit_binary import VERSION, LiveKitError, find
from tests.sandbox.test_livekit_binary import program

KEY, SECRET = "test-key", "a secret of at least thirty-two bytes"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def binary() -> Path:
    return find()


@asynccontextmanager
async def running(binary: Path, port: int = 0) -> AsyncIterator[LiveKitServer]:
    server = LiveKitServer(binary, KEY, SECRET, port)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


async def takes_our_key(server: LiveKitServer) -> bool:
    async with api.LiveKitAPI(f"http://127.0.0.1:{server.port}", KEY, SECRET) as client:
        return len((await client.room.list_rooms(api.ListRoomsRequest())).rooms) == 0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - it is another process that changes
            await asyncio.sleep(0.02)


def server_process(server: LiveKitServer) -> psutil.Process:
    assert server.pid is not None
    return psutil.Process(server.pid)


def test_it_takes_calls_on_loopback_only_and_ends(binary: Path) -> None:
    async def main() -> None:
        async with running(binary) as server:
            assert server.url == f"ws://127.0.0.1:{server.port}"
            assert await takes_our_key(server)
            process = server_process(server)
            assert {(c.type, c.laddr.ip, c.laddr.port) for c in process.net_connections() if not c.raddr} == {
                (socket.SOCK_STREAM, "127.0.0.1", server.port),
                (socket.SOCK_DGRAM, "127.0.0.1", server.udp_port),
            }
            assert SECRET not in " ".join(process.cmdline())
        assert not process.is_running()

    asyncio.run(main())


def test_settings_meant_for_other_servers_do_not_reach_it(
    binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_HOST", "redis.invalid:6379")
    monkeypatch.setenv("LIVEKIT_KEYS", "other: secret")

    async def main() -> None:
        async with running(binary) as server:
            assert await takes_our_key(server)

    asyncio.run(main())


def test_a_port_in_use_is_named(binary: Path) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(LiveKitError, match=f"Port {port} is in use"):
                async with running(binary, port):
                    pass

    asyncio.run(main())


def test_its_death_is_said_and_it_comes_back_on_the_same_ports(
    binary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with running(binary) as server:
            place = (server.url, server.udp_port)
            dead = server_process(server)
            dead.kill()
            await until(lambda: "it runs again" in caplog.text)
            assert (server.url, server.udp_port) == place
            assert server_process(server) != dead
            assert await takes_our_key(server)

    caplog.set_level("WARNING", "sandbox.livekit")
    asyncio.run(main())
    assert "it has ended (exit code -9)" in caplog.text


def test_its_own_words_are_in_our_log(binary: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as other:
            async with running(binary) as server:
                process = server_process(server)
                process.kill()
                process.wait(timeout=10)
                other.bind(("127.0.0.1", server.udp_port))
                await until(lambda: f"livekit-server ended at once (HTTP port {server.port}" in caplog.text)
            words = [record.getMessage() for record in caplog.records if record.name == "sandbox.livekit"]
            assert f"listen udp 127.0.0.1:{server.udp_port}: bind: address already in use" in words

    asyncio.run(main())


def test_another_version_that_will_not_run_is_named(tmp_path: Path) -> None:
    other = program(
        tmp_path / "livekit-server",
        '[ "$1" = --version ] && { echo "livekit-server version 1.5.0"; exit 0; }\n'
        "echo starting; echo 'could not parse config: field stun_servers not found'; exit 1",
    )

    async def main() -> None:
        with pytest.raises(LiveKitError) as problem:
            async with running(other):
                pass
        assert "Its last words: could not parse config: field stun_servers not found" in str(problem.value)
        assert f"version 1.5.0 at {other}; {VERSION} is known to work" in str(problem.value)

    asyncio.run(main())


def test_a_start_that_fails_is_tried_again(
    binary: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, problems = asyncio.create_subprocess_exec, [OSError("no memory"), TimeoutError()]
    list_rooms = api.room_service.RoomService.list_rooms

    async def fail_once(*args: Any, **options: Any) -> asyncio.subprocess.Process:
        if len(problems) == 2:
            raise problems.pop(0)
        return await start(*args, **options)

    async def no_answer_once(*args: Any, **options: Any) -> Any:
        if problems:
            raise problems.pop()
        return await list_rooms(*args, **options)

    async def main() -> None:
        async with running(binary) as server:
            monkeypatch.setattr(asyncio, "create_subprocess_exec", fail_once)
            monkeypatch.setattr(api.room_service.RoomService, "list_rooms", no_answer_once)
            server_process(server).kill()
            await until(lambda: "it runs again" in caplog.text)

    asyncio.run(main())
    assert "livekit-server cannot be started: no memory" in caplog.text
    assert "stopped answering on port" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_it_does_not_outlive_us_even_when_we_are_killed(binary: Path) -> None:
    script = f"""
import asyncio
from pathlib import Path
from sandbox.livekit import LiveKitServer
async def main():
    server = LiveKitServer(Path({str(binary)!r}), {KEY!r}, {SECRET!r})
    await server.start()
    print(server.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
        server.wait(timeout=10)
