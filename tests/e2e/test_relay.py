"""The way into the log: cut and mended, and closed in mid-call."""

from __future__ import annotations

import json

from playwright.sync_api import Page, WebSocketRoute, expect

from tests.e2e.caller import Caller
from tests.e2e.record import browser_rows, session_state, wait_until
from tests.e2e.servers import Site


def session_of(caller: Caller) -> str:
    session = caller.main.get_attribute("data-session")
    assert session
    return session


class Cable:
    """Stands in the page's socket into the log, so that it can be cut; keeps the numbers that passed."""

    def __init__(self, page: Page) -> None:
        self.sockets: list[WebSocketRoute] = []
        self.sent: set[int] = set()
        self.down = False
        page.route_web_socket("**/ws/sessions/**", self.connect)

    def connect(self, socket: WebSocketRoute) -> None:
        if self.down:
            socket.close(code=3000, reason="cut")
            return
        server = socket.connect_to_server()
        self.sockets.append(socket)

        def pass_on(message: str | bytes) -> None:
            if "seq" in (frame := json.loads(message)):
                self.sent.add(frame["seq"])
            server.send(message)

        socket.on_message(pass_on)

    def cut(self) -> None:
        self.down = True
        self.sockets[-1].close(code=3000, reason="cut")

    def mend(self) -> None:
        self.down = False


def test_events_of_a_cut_socket_are_each_logged_once(caller: Caller, site: Site) -> None:
    cable = Cable(caller.page)
    caller.call()
    session = session_of(caller)
    caller.ask("weather")
    cable.cut()
    before = max(cable.sent)
    # Asked while the way into the log is down: only the media path carries it.
    caller.ask("hello")
    wait_until(
        caller.page, lambda: len(browser_rows(site, session)) <= before, "nothing arrives while it is cut"
    )
    cable.mend()
    wait_until(
        caller.page, lambda: len(cable.sockets) >= 2 and max(cable.sent) > before, "the page reconnects"
    )
    caller.ask("time")
    caller.hang_up()
    wait_until(
        caller.page, lambda: session_state(site, session) == ("ended", "hang_up"), "the call's end is logged"
    )

    logged = browser_rows(site, session)
    assert [row.seq for row in logged] == list(range(1, len(logged) + 1))
    assert cable.sent == {row.seq for row in logged}
    said = [row.data["transcript"] for row in logged if row.type == "input_audio_transcript"]
    shown = caller.turn_texts("caller")
    assert said == shown
    spoken = [row.data["text"] for row in logged if row.type == "response_text"]
    assert [text.strip() for text in spoken if text.strip()] == caller.turn_texts("agent")


def test_closing_the_tab_keeps_the_log_and_ends_the_session(caller: Caller, site: Site, staff: Page) -> None:
    caller.call()
    session = session_of(caller)
    answer = caller.ask("hello")
    caller.page.close(run_before_unload=True)
    wait_until(staff, lambda: session_state(site, session)[0] == "ended", "the session ends with its tab")
    texts = [row.data["text"] for row in browser_rows(site, session) if row.type == "response_text"]
    assert answer in [text.strip() for text in texts]
    staff.goto(f"{site.url}/admin/sessions_app/voicesession/{session}/change/")
    expect(staff.locator("#transcript")).to_contain_text(answer)
