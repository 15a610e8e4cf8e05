"""Long replies: they wait for who reads them, and do not look complete when they are not."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from tests.e2e.servers import Site, listen, manage, serve, site_environment
from tests.site.sockets import PATIENCE_S

PIECES = 1000
PIECE = 64 * 1024
"""What long_replies.py sends."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    agent = "5a1c0e5e-0000-4000-8000-000000000001"
    platform = {"VATEL_BASE_URL": "http://127.0.0.1:9", "VATEL_API_KEY": "no-key", "VATEL_AGENT_IDS": agent}
    environ = site_environment(folder, **platform)
    manage(environ, "migrate", "--verbosity", "0")
    log, listener = folder / "site.log", listen(0)
    process = serve(listener, log, environ, "tests.site.long_replies:application")
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    site = Site(process, log, url=url, env=environ, listener=listener)
    yield site
    site.stop()


def connect(site: Site) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(site.url).port or 0), timeout=PATIENCE_S)


def get(site: Site, path: str) -> bytes:
    with closing(http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=PATIENCE_S)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read()


def test_who_does_not_read_is_not_written_to_and_gets_all_of_it_in_the_end(site: Site) -> None:
    with connect(site) as stalled:
        stalled.sendall(b"GET /much HTTP/1.0\r\n\r\n")
        pieces = int(get(site, "/taken"))
        assert 0 < pieces < PIECES / 4  # what the systems' buffers hold; the others were not even made
        reply = b"".join(iter(lambda: stalled.recv(1024 * 1024), b""))
    body = reply.partition(b"\r\n\r\n")[2]
    assert len(body) == PIECES * PIECE + len(b"end")
    assert body.endswith(b"end")


def test_who_leaves_in_the_middle_harms_nobody(site: Site) -> None:
    with connect(site) as gone:
        gone.sendall(b"GET /much HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        get(site, "/taken")
    assert get(site, "/healthz") == b"ok"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_reply_that_breaks_in_the_middle_does_not_look_complete(site: Site, version: str) -> None:
    with connect(site) as reader:
        reader.sendall(f"GET /breaks HTTP/{version}\r\nHost: 127.0.0.1\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            b"".join(iter(lambda: reader.recv(1024 * 1024), b""))
    assert get(site, "/healthz") == b"ok"
    log = site.log.read_text()
    assert "broken in the middle" in log
    # The server's timer, which looks after all connections, went on.
    assert "already been started" not in log
