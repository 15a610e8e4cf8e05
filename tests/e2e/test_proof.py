"""What the browser has reported of a call is compared with the platform's own record of it."""

from __future__ import annotations

import json

from playwright.sync_api import Page, WebSocketRoute, expect

from tests.e2e.caller import Caller
from tests.e2e.record import browser_rows, prove, session_state, texts, wait_until
from tests.e2e.servers import Site


class Leak:
    """Stands in the page's socket into the log, where the agent's second turn gets lost without a trace.

    The later numbers close up, so that for the server nothing is missing; and the page hears of its own.
    """

    def __init__(self, page: Page) -> None:
        self.turns = 0
        self.lost: int | None = None
        page.route_web_socket("**/ws/sessions/**", self.connect)

    def connect(self, socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def report(message: str | bytes) -> None:
            frame = json.loads(message)
            if "seq" in frame:
                self.turns += frame["type"] == "response_text"
                if self.lost is None and self.turns == 2:
                    self.lost = frame["seq"]
                    return
                frame["seq"] -= self.lost is not None
            server.send(json.dumps(frame))

        def tell(message: str | bytes) -> None:
            told = json.loads(message)
            if "ack" in told and self.lost is not None:
                told["ack"] += told["ack"] >= self.lost
            socket.send(json.dumps(told))

        socket.on_message(report)
        server.on_message(tell)


def test_turn_that_the_browser_never_reported_is_recovered_at_its_place(
    caller: Caller, site: Site, staff: Page
) -> None:
    Leak(caller.page)
    caller.call()
    caller.ask("weather", until="paris")
    caller.ask("time", until="tokyo")
    session = caller.session
    greeting, lost, *_, last = caller.turn_texts("agent")
    asked, *_, asked_last = caller.turn_texts("caller")
    caller.hang_up()
    clean = Caller(caller.page.context.new_page(), site.url).call()
    clean.hang_up()

    wait_until(staff, lambda: session_state(site, session)[0] == "ended", "the end is in the log")
    assert lost not in texts(browser_rows(site, session), "agent")
    assert prove(staff, site, session) == ("recovered", 1, 0)
    assert prove(staff, site, clean.session) == ("complete", 0, 0)

    staff.goto(f"{site.url}/admin/sessions_app/voicesession/")
    for call, proof in ((session, "Recovered 1"), (clean.session, "Complete")):
        row = staff.locator("#result_list tbody tr").filter(has=staff.locator(f'a[href*="{call}"]'))
        expect(row).to_contain_text(proof)
    staff.goto(f"{site.url}/admin/sessions_app/voicesession/{session}/change/")

    def expect_recovered() -> None:
        expect(staff.locator("#call-proof")).to_contain_text("Recovered 1")
        recovered = staff.locator('#transcript > li[data-source="platform"]')
        expect(recovered).to_have_count(1)
        expect(recovered).to_contain_text(lost)
        expect(recovered).to_contain_text("recovered")
        words = staff.locator("#transcript").inner_text()
        in_order = [words.index(text) for text in (greeting, asked, lost, asked_last, last)]
        assert in_order == sorted(in_order)

    expect_recovered()
    staff.get_by_role("button", name="Compare again").click()
    expect(staff.locator(".messagelist")).to_contain_text("Compared")
    expect_recovered()
