"""What an outsider tries, against the running site."""

from __future__ import annotations

import json
import re

import httpx
from playwright.sync_api import Response, expect

from tests.e2e.caller import Caller
from tests.e2e.conftest import NewContext
from tests.e2e.record import browser_rows
from tests.e2e.servers import Sandbox, Site
from tests.e2e.visitors import Watch

OPEN_SOCKET = """url => new Promise(resolve => {
  const got = [];
  const socket = new WebSocket(url);
  socket.onmessage = m => got.push(m.data);
  socket.onopen = () => socket.send(JSON.stringify({seq: 1, at_ms: 0, type: "hang_up", data: {}}));
  socket.onclose = e => resolve({code: e.code, got});
})"""


def test_outsider_cannot_open_anothers_socket(caller: Caller, new_context: NewContext, site: Site) -> None:
    caller.call()
    session = caller.main.get_attribute("data-session")
    assert session
    before = browser_rows(site, session)

    outsider = new_context().new_page()
    outsider.goto(site.url)
    socket = site.url.replace("http", "ws") + f"/ws/sessions/{session}/"
    result = outsider.evaluate(OPEN_SOCKET, socket)
    assert result["code"] == 4403
    assert [json.loads(message)["code"] for message in result["got"]] == ["not_yours"]
    watching = outsider.evaluate(OPEN_SOCKET, socket.replace("/ws/sessions/", "/ws/transcripts/"))
    assert watching == {"code": 4403, "got": []}
    assert browser_rows(site, session)[: len(before)] == before
    assert "hang_up" not in [row.type for row in browser_rows(site, session)]
    caller.hang_up()


def test_outsider_does_not_see_the_admin(caller: Caller, site: Site) -> None:
    caller.open()
    for path in ("", "sessions_app/voicesession/", "sessions_app/booking/"):
        caller.page.goto(f"{site.url}/admin/{path}")
        expect(caller.page.get_by_label("Password")).to_be_visible()


def test_foreign_origin_cannot_mint(site: Site) -> None:
    with httpx.Client(base_url=site.url) as client:
        page = client.get("/")
        token = re.search(r'name="csrf-token" content="([^"]+)"', page.text)
        assert token
        foreign = {"Origin": "https://elsewhere.example", "X-CSRFToken": token[1]}
        answer = client.post("/sessions/", headers=foreign, json={})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "csrf_failed")
        without_token = client.post("/sessions/", headers={"Origin": site.url}, json={})
        assert (without_token.status_code, without_token.json()["error"]["code"]) == (403, "csrf_failed")


def test_foreign_origin_cannot_open_a_socket(
    caller: Caller, site: Site, sandbox: Sandbox, watch: Watch
) -> None:
    watch.allow(r"WebSocket connection to .* failed")
    watch.allow(r"Failed to load resource: .*401")
    # The sandbox's REST port answers with a page of another origin, to the browser that owns the session.
    caller.call()
    session = caller.main.get_attribute("data-session")
    elsewhere = caller.page.context.new_page()
    elsewhere.goto(f"{sandbox.base_url}/v1/agents")
    result = elsewhere.evaluate(OPEN_SOCKET, site.url.replace("http", "ws") + f"/ws/sessions/{session}/")
    assert result == {"code": 1006, "got": []}
    caller.hang_up()


def test_key_is_nowhere_in_what_the_site_sends(caller: Caller, sandbox: Sandbox) -> None:
    responses: list[Response] = []
    caller.page.on("response", lambda response: responses.append(response))
    caller.open().start()
    caller.expect_state("live")
    caller.hang_up()
    sent = [response for response in responses if response.url.startswith(caller.url)]
    assert [response.url for response in sent if response.url.endswith("/sessions/")]
    for response in sent:
        assert sandbox.api_key not in response.text()
        assert sandbox.api_key not in str(response.all_headers())
