"""The server as a process of its own: how it starts, how it ends, and what it does with who does not read."""

import asyncio
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, ServerDisconnectedError, WSMsgType, web

from bench.stage import Visitor, seed, start_server
from tests.e2e.servers import ROOT, Site, serve
from tests.site.platform import CREDENTIAL
from tests.site.sockets import PATIENCE_S, frame

PAGE = "page-load-1"
CALLS = 20


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    """Where the site looks for its platform."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture(scope="module")
def home(listener: socket.socket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    platform = f"http://127.0.0.1:{listener.getsockname()[1]}"
    site = start_server(tmp_path_factory.mktemp("site"), VATEL_BASE_URL=platform, CONSENT="0")
    yield site
    site.stop()


@pytest.fixture(scope="module")
def visitor(home: Site) -> Visitor:
    return seed(home, CALLS + 3)


@pytest.fixture
def site(home: Site) -> Iterator[Site]:
    """A server that runs; what a test leaves of it ends with the test."""
    home.log.write_text("")
    if home.process.poll() is not None:
        home.start()
    yield home
    if home.process.poll() is None:
        home.end(signal.SIGKILL)


def stored(site: Site, session: str) -> list[int]:
    """The numbers of a call's lines in the log."""
    with closing(sqlite3.connect(site.env["DATABASE_PATH"])) as database:
        lines = database.execute(
            "SELECT seq FROM sessions_app_sessionevent WHERE session_id = ? ORDER BY seq",
            [session.replace("-", "")],
        )
        return [seq for (seq,) in lines]


class Page:
    """A page's side of the relay, in short: it remembers what it sent and what it was told."""

    def __init__(self, ws: ClientWebSocketResponse) -> None:
        self.ws = ws
        self.sent = self.acked = 0
        self.refused = ""
        self.told = asyncio.Condition()

    async def send(self, seq: int) -> None:
        await self.ws.send_str(json.dumps(frame(seq)))
        self.sent = seq

    async def listen(self) -> int | None:
        """Reads to the end. Returns the close code."""
        async for message in self.ws:
            assert message.type is WSMsgType.TEXT
            said = json.loads(message.data)
            async with self.told:
                self.acked = said.get("ack", self.acked)
                self.refused = said.get("code", self.refused)
                self.told.notify_all()
        return self.ws.close_code

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S), self.told:
            await self.told.wait_for(condition)

    async def talk(self) -> None:
        """Sends on, at the pace of a page, until the socket closes."""
        while not self.ws.closed and self.sent < 10_000:
            await self.send(self.sent + 1)
            await asyncio.sleep(0.03)


@asynccontextmanager
async def connected(site: Site, visitor: Visitor, session: str) -> AsyncIterator[Page]:
    headers = {"Origin": site.url, "Cookie": visitor.cookie}
    address = f"{site.url}/ws/sessions/{session}/?page={PAGE}"
    # autoping: off, pongs are seen.
    async with ClientSession() as client, client.ws_connect(address, headers=headers, autoping=False) as ws:
        page = Page(ws)
        welcome = await ws.receive_json(timeout=PATIENCE_S)
        page.acked = page.sent = welcome["ack"]
        yield page


async def ended(process: subprocess.Popen[str]) -> int:
    return await asyncio.to_thread(process.wait, PATIENCE_S)


# ------------------------------------------------------------------ how it ends


def test_restart_under_load_loses_nothing(site: Site, visitor: Visitor) -> None:
    async def talk(session: str) -> Page:
        async with connected(site, visitor, session) as page:
            talking = asyncio.create_task(page.talk())
            listening = asyncio.create_task(page.listen())
            await page.until(lambda: page.acked >= 10)
            under_way.release()
            assert await listening == 4012
            talking.cancel()
            return page

    async def resume(session: str, before: Page) -> None:
        async with connected(site, visitor, session) as page:
            assert page.acked == before.acked
            for seq in range(page.acked + 1, before.sent + 1):
                await page.send(seq)
            listening = asyncio.create_task(page.listen())
            await page.until(lambda: page.acked == before.sent)
            await page.ws.close()
            await listening

    async def story() -> list[Page]:
        talks = [asyncio.create_task(talk(session)) for session in calls]
        for _ in talks:
            await under_way.acquire()
        site.process.send_signal(signal.SIGTERM)
        return await asyncio.gather(*talks)

    async def go_on(pages: list[Page]) -> None:
        await asyncio.gather(*map(resume, calls, pages))

    calls = visitor.sessions[:CALLS]
    under_way = asyncio.Semaphore(0)
    pages = asyncio.run(story())
    assert site.process.wait(PATIENCE_S) == 0
    log = site.log.read_text()
    assert "Traceback" not in log
    assert f"WSCONNECT /ws/sessions/{calls[0]}/" in log
    assert PAGE not in log
    assert {page.refused for page in pages} == {"restarting"}
    for session, page in zip(calls, pages, strict=True):
        assert stored(site, session) == list(range(1, page.acked + 1))

    site.start()
    asyncio.run(go_on(pages))
    for session, page in zip(calls, pages, strict=True):
        assert stored(site, session) == list(range(1, page.sent + 1))


class Platform:
    """A platform that answers a mint when it is told to."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    async def mint(self, _: web.Request) -> web.Response:
        self.asked.set()
        await self.answer.wait()
        return web.json_response(CREDENTIAL | {"url": "ws://127.0.0.1:9"})


@asynccontextmanager
async def minting(site: Site, listener: socket.socket) -> AsyncIterator[tuple[Platform, asyncio.Task[int]]]:
    """A visitor's request that waits for the platform, and its status once it is answered."""

    async def mint() -> int:
        token = "c" * 32
        headers = {"Cookie": f"csrftoken={token}", "X-CSRFToken": token}
        async with ClientSession() as client, client.post(f"{site.url}/sessions/", headers=headers) as answer:
            return answer.status

    platform = Platform()
    application = web.Application()
    application.router.add_post("/v1/session-token", platform.mint)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.SockSite(runner, listener.dup()).start()  # it closes what it is given
    status = asyncio.create_task(mint())
    asked = asyncio.create_task(platform.asked.wait())
    await asyncio.wait([asked, status], timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    assert platform.asked.is_set(), status
    yield platform, status
    platform.answer.set()
    await runner.cleanup()


def test_request_in_flight_gets_its_answer(site: Site, visitor: Visitor, listener: socket.socket) -> None:
    async def story() -> None:
        async with (
            connected(site, visitor, visitor.sessions[-1]) as page,
            minting(site, listener) as (platform, status),
        ):
            site.process.send_signal(signal.SIGTERM)
            assert await page.listen() == 4012
            platform.answer.set()
            assert await status == 201
            assert await ended(site.process) == 0

    asyncio.run(story())


def test_second_signal_ends_it_at_once(site: Site, visitor: Visitor, listener: socket.socket) -> None:
    async def story() -> None:
        async with (
            connected(site, visitor, visitor.sessions[-2]) as page,
            minting(site, listener) as (_, status),
        ):
            site.process.send_signal(signal.SIGINT)
            assert await page.listen() == 4012
            site.process.send_signal(signal.SIGINT)
            # By the signal itself: in order, it would be 0.
            assert await ended(site.process) == -signal.SIGINT
            with pytest.raises(ServerDisconnectedError):
                await status

    asyncio.run(story())


def test_what_hangs_is_cut_off(site: Site, visitor: Visitor, listener: socket.socket) -> None:
    session = visitor.sessions[-3]

    async def story() -> None:
        async with (
            connected(site, visitor, session) as page,
            minting(site, listener) as (_, status),
        ):
            # Another process keeps the database for itself.
            with closing(sqlite3.connect(site.env["DATABASE_PATH"], isolation_level=None)) as database:
                database.execute("BEGIN IMMEDIATE")
                await page.send(1)
                await page.ws.ping()
                assert (await page.ws.receive(PATIENCE_S)).type is WSMsgType.PONG  # the frame is there, too
                site.process.send_signal(signal.SIGTERM)
                assert await page.listen() == 4012
                assert await ended(site.process) == 0
            assert (page.refused, page.acked) == ("restarting", 0)
            with pytest.raises(ServerDisconnectedError):
                await status

    asyncio.run(story())
    log = site.log.read_text()
    assert "not all frames could be stored before the restart" in log
    assert "cut 0 sockets and 1 applications" in log
    assert "Traceback" not in log
    assert stored(site, session) == []


# ------------------------------------------------------------------ applications that misbehave


@pytest.fixture
def misbehaving(site: Site) -> subprocess.Popen[str]:
    """The server with the sockets of misbehaving.py, at the site's address."""
    site.end(signal.SIGKILL)
    assert site.listener is not None
    site.process = serve(site.listener, site.log, site.env, "tests.site.misbehaving:application")
    return site.process


def test_event_loop_that_hangs_does_not_keep_it(site: Site, misbehaving: subprocess.Popen[str]) -> None:
    async def story() -> None:
        async with ClientSession() as client, client.ws_connect(f"{site.url}/hang/") as ws:
            await ws.send_str("now")
            misbehaving.send_signal(signal.SIGTERM)
            assert await ended(misbehaving) == 1

    asyncio.run(story())
    assert "tests/site/misbehaving.py" in site.log.read_text()  # where it hangs


def read_on(connection: socket.socket) -> None:
    """Reads what the system's buffers hold, up to the end."""
    while connection.recv(2**20):
        pass


def test_reader_that_stalls_is_cut(site: Site, misbehaving: subprocess.Popen[str]) -> None:
    async def written() -> int:
        async with ClientSession() as client, client.ws_connect(f"{site.url}/flooded/") as ws:
            return int(await ws.receive_str(timeout=PATIENCE_S))

    port = int(site.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as stalled:
        stalled.sendall(
            b"GET /flood/ HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        # Another socket is served meanwhile. The system's own buffers take some MiB of what nobody reads.
        assert asyncio.run(written()) < 32 * 2**20
        with pytest.raises(ConnectionResetError):
            read_on(stalled)
    assert "cut a WebSocket at /flood/" in site.log.read_text()


# ------------------------------------------------------------------ how it does not start


def refusal(*words: str, **env: str) -> str:
    """What the server says when it cannot start."""
    base = {"PATH": os.environ["PATH"], "DEBUG": "1", "VATEL_AGENT_IDS": os.environ["VATEL_AGENT_IDS"]}
    command = [sys.executable, "-m", "voicedemo.server", *words]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**base, **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def test_busy_port_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        said = refusal("-p", str(port))
    assert re.fullmatch(rf"voicedemo: cannot listen at \S*{port}\S* \(Address already in use\); .*\n", said)


def test_bad_descriptor_is_a_sentence() -> None:
    assert re.fullmatch(
        r"voicedemo: cannot listen at \S*99 \(Bad file descriptor\); .*\n", refusal("--fd", "99")
    )


def test_bad_setting_is_a_sentence(tmp_path: Path) -> None:
    said = refusal("-p", "0", VATEL_AGENT_IDS="Concierge")
    assert re.fullmatch(r"voicedemo: VATEL_AGENT_IDS holds 'Concierge'.*\n", said)
