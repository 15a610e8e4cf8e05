"""A recording through the server as shipped: what happens when one of the two sides goes away."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from django.conf import settings

from bench.stage import start_server
from tests.e2e.servers import Site

from .sockets import PATIENCE_S
from .studio import Studio, studio

SEED = """
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from sessions_app.models import VoiceSession
client = Client()
client.force_login(User.objects.create_superuser("ada"))
call = VoiceSession.objects.create(visitor="0" * 32, agent_id="5a1c0e5e-0000-4000-8000-000000000001",
    agent_name="Concierge", state="ended", ended_at=timezone.now(), call_id="call-77",
    platform_call={"id": "call-77"})
print(call.pk, client.cookies.output(header="", sep=";").partition(";")[0].strip())
"""

SOUND = bytes(40_000_000)
"""More than the systems' buffers hold."""


@pytest.fixture(scope="module")
def platform() -> Iterator[Studio]:
    with studio(SOUND) as platform:
        yield platform


@pytest.fixture(scope="module")
def site(platform: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = start_server(tmp_path_factory.mktemp("site"), VATEL_BASE_URL=settings.VATEL_BASE_URL)
    yield site
    site.stop()


@pytest.fixture(scope="module")
def request_head(site: Site) -> bytes:
    """Of a request for all of the recording."""
    pk, cookie = site.manage("shell", "--verbosity", "0", "--command", SEED).split()
    path = f"/admin/sessions_app/voicesession/{pk}/change/recording/"
    return f"GET {path} HTTP/1.1\r\nHost: {urlsplit(site.url).netloc}\r\nCookie: {cookie}\r\n\r\n".encode()


def connect(site: Site) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(site.url).port or 0), timeout=PATIENCE_S)


def answer_to(browser: socket.socket) -> http.client.HTTPResponse:
    answer = http.client.HTTPResponse(browser)
    answer.begin()
    assert answer.status == 200
    assert answer.length == len(SOUND)
    return answer


def test_the_platform_is_left_when_the_browser_goes_away(
    site: Site, platform: Studio, request_head: bytes
) -> None:
    platform.left.clear()
    with connect(site) as browser:
        browser.sendall(request_head)
        answer_to(browser).read(100_000)
        assert not platform.left.is_set()
    assert platform.left.wait(PATIENCE_S)
    with connect(site) as browser:
        browser.sendall(request_head)
        assert answer_to(browser).read() == SOUND


def test_a_recording_that_breaks_off_does_not_look_complete(
    site: Site, platform: Studio, request_head: bytes
) -> None:
    platform.breaks_at = 10_000_000
    with closing(connect(site)) as browser:
        browser.sendall(request_head)
        answer = answer_to(browser)
        with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
            answer.read()
    platform.breaks_at = None
