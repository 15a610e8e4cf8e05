"""The way into the log: cut and mended, closed in mid-sentence, and taken by two tabs."""

from __future__ import annotations

import json
from typing import Literal

import pytest
from playwright.sync_api import Page, Route, WebSocketRoute, expect

from tests.e2e.caller import Caller
from tests.e2e.ear import likeness
from tests.e2e.record import (
    browser_rows,
    expect_whole,
    prove,
    recorded,
    session_state,
    texts,
    unsent,
    wait_until,
)
from tests.e2e.servers import Sandbox, Site


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


def test_events_of_a_cut_socket_are_each_logged_once_and_in_the_order_of_the_talk(
    caller: Caller, site: Site
) -> None:
    cable = Cable(caller.page)
    caller.call()
    caller.ask("weather")
    cable.cut()
    before = max(cable.sent)
    # Asked while the way into the log is down: only the media path carries it.
    caller.ask("hello")
    wait_until(
        caller.page,
        lambda: len(browser_rows(site, caller.session)) <= before,
        "nothing arrives while it is cut",
    )
    cable.mend()
    wait_until(
        caller.page, lambda: len(cable.sockets) >= 2 and max(cable.sent) > before, "the page reconnects"
    )
    caller.ask("time")
    caller.hang_up()

    logged = expect_whole(caller, site)
    assert cable.sent == {row.seq for row in logged}
    newest = {row.type: row for row in logged}
    question, answer = newest["input_audio_transcript"], newest["response_text"]
    stopped, audible = newest["speech_stopped"], newest["reply_audible"]
    assert question.at_ms in [row.at_ms for row in logged if row.type == "speech_started"]
    assert question.at_ms < stopped.at_ms < audible.at_ms
    assert question.at_ms < answer.at_ms
    assert audible.data["after_ms"] == pytest.approx(audible.at_ms - stopped.at_ms, abs=1)


@pytest.mark.parametrize("speaker", ["agent", "caller"])
def test_tab_closed_in_mid_sentence_leaves_what_was_heard_of_it(
    speaker: Literal["agent", "caller"], caller: Caller, site: Site, sandbox: Sandbox, staff: Page
) -> None:
    cable = Cable(caller.page)
    caller.call()
    session = caller.session
    if speaker == "agent":
        caller.say("long_question")
    else:
        # Long enough for a busy machine to write some words of it before its end.
        caller.say("long_question", "hello", "long_question", "weather", to_the_end=False)
    number = {"agent": 2, "caller": 1}[speaker]
    caller.expect_speaking(speaker, number)
    # Now only a request that outlives the page can bring the rest.
    cable.cut()
    heard = caller.turns(speaker, final=False).nth(number - 1).locator("[data-text]").inner_text()
    caller.page.close(run_before_unload=True)

    wait_until(
        staff, lambda: session_state(site, session) == ("ended", "hang_up"), "the session ends with its tab"
    )
    logged = browser_rows(site, session)
    assert [row.seq for row in logged] == list(range(1, len(logged) + 1))
    *_, cut, end = logged
    assert (end.type, end.data) == ("hang_up", {"by": "page_closed"})
    assert cut.data.get("cut_by") == "page_closed", logged
    # Meanwhile more words were heard, and the recogniser may have thought better of the last one.
    [words] = texts([cut], speaker)
    assert likeness(heard, words) >= 0.7

    # The platform's record may have more of the turn: then both stand in its place.
    prove(staff, site, session)
    record = recorded(sandbox, logged)
    turn = next(entry for entry in record if entry["turnId"] == cut.data["turn_id"])
    staff.goto(f"{site.url}/admin/sessions_app/voicesession/{session}/change/")
    line = staff.locator(f"#browser-{cut.seq}")
    expect(line).to_contain_text(words)
    expect(line).to_contain_text(turn["message"])
    is_told_otherwise = words.casefold().split() != turn["message"].casefold().split()
    expect(line.locator(".dispute")).to_have_count(int(is_told_otherwise))


def test_second_tab_on_a_call_is_refused_with_a_sentence_and_the_first_goes_on(
    caller: Caller, site: Site
) -> None:
    cable = Cable(caller.page)
    caller.call()
    cable.cut()
    answer = caller.ask("hello")

    with caller.page.expect_popup() as opened:
        caller.page.evaluate("() => void open(location.href)")
    second = Caller(opened.value, site.url)
    # It has a copy of the first one's storage, and posts what is kept there: the first will do so, too.
    wait_until(
        second.page,
        lambda: answer in texts(browser_rows(site, caller.session), "agent"),
        "the second tab brings what the first one could not",
    )
    assert unsent(caller.page) != []

    def take_for_its_own(route: Route) -> None:
        mine = route.fetch()
        of_first = {"session": caller.session, "relay_url": f"/ws/sessions/{caller.session}/"}
        route.fulfill(response=mine, json={**mine.json(), **of_first})

    second.page.route("**/sessions/", take_for_its_own)
    # With locks in the browser it would not come so far: see test_page_life.py.
    second.page.evaluate("() => { navigator.locks.request = async (name, how, use) => use({ name }); }")
    second.start()
    second.expect_state("live")
    expect(second.standing).to_have_text("This call is open in another tab, which keeps its transcript.")
    second.hang_up()

    cable.mend()
    caller.ask("time", until="tokyo")
    caller.hang_up()
    expect_whole(caller, site)
