"""A walk through the talk page's states: at each stop the page is in the state that names the stop."""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import BrowserContext, Page, Route, WebSocketRoute, expect

from tests.e2e import provoke
from tests.e2e.caller import PATIENCE_MS, SITUATIONS, Caller
from tests.e2e.lines import LineCaller, Lines
from tests.e2e.servers import ROOT, Site
from tests.e2e.stand_in import Answer, Line, failing

Stop = tuple[str, Page]

STILL: dict[str, Any] = {"reduced_motion": "reduce", "color_scheme": "light"}
"""For visitors on a tour: what fades or turns looks different each time."""
LONG_WORDS = (
    "I can tell you the time and the weather in any city, change how this page looks, show you a list, and "
    "book a table at Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft."
)
CITIES = [
    "Amsterdam",
    "Buenos Aires",
    "Kyoto",
    "Lisbon",
    "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch",
]


def first_call(lines: Lines) -> Iterator[Stop]:
    """One visitor's first call, from the first sight of the page until it is loaded anew."""
    line = lines.open(Answer(has_agent=False), gated=True)
    visitor = visit(lines, line, provoke.DEVICES, provoke.PROMPT_OPEN)
    page = visitor.page
    script = Held(page.context, "**/dist/conversation*.js")
    mint = Held(page.context, "**/sessions/")
    tools = HeldToolOutputs(page.context)

    visitor.open()
    expect(page.get_by_role("heading", name="Before you talk")).to_be_visible()
    yield "idle, with the terms", page

    open_settings(page)
    yield "idle, settings", page
    close_settings(page)

    visitor.start()
    visitor.expect_state("loading")
    yield "loading", page
    script.release()

    visitor.expect_state("microphone")
    yield "microphone", page
    elsewhere = lines.in_tab(page.context.new_page(), line).open().start()
    elsewhere.expect_failure("call_elsewhere")
    yield "failed, talk here", elsewhere.page
    elsewhere.page.close()
    expect(visitor.main).to_have_attribute("data-situation", "microphone_unanswered", timeout=PATIENCE_MS)
    yield "microphone, unanswered", page
    page.evaluate("() => answerPrompt()")

    visitor.expect_state("connecting")
    yield "connecting", page
    mint.release()

    visitor.expect_state("live")
    yield "live, no agent yet", page
    agent = line.send_agent(greets=False)
    expect(visitor.status).to_contain_text("Listening")
    yield "live, listening", page

    def tell(kind: str, **data: Any) -> None:
        line.do(agent.tell(kind, **data))

    def hear(turn: str, text: str, *, is_final: bool = True) -> None:
        tell("input_audio_transcript", transcript=text, turn_id=turn, is_final=is_final)

    def say(turn: str, text: str, *, is_final: bool = True) -> None:
        tell("response_text", text=text, turn_id=turn, is_final=is_final)

    def use_tool(name: str, **values: Any) -> None:
        arguments = [{"name": key, "value": value} for key, value in values.items()]
        tell("tool_call", toolCallId=f"tool-{name}", toolName=name, arguments=arguments)

    say("1", "Hello! I am the agent of this", is_final=False)
    expect(visitor.main).to_have_attribute("data-doing", "speaking")
    yield "live, the agent speaks", page
    say("1", "Hello! I am the agent of this line. What can I do for you?")

    tell("speech_started", emulated=False)
    hear("2", "What is the weather like in", is_final=False)
    expect(visitor.turns("caller", final=False)).to_have_count(1)
    yield "live, the caller speaks", page
    tell("speech_stopped")
    hear("2", "What is the weather like in Lisbon?")
    expect(visitor.main).to_have_attribute("data-doing", "thinking")
    yield "live, the agent thinks", page

    use_tool("get_weather", city="Lisbon")
    expect(visitor.tool("get_weather", "running")).to_be_visible()
    yield "live, a tool runs", page
    tools.release()
    expect(visitor.tool("get_weather")).to_be_visible()
    use_tool("order_a_taxi_to_the_airport", address=LONG_WORDS, at="07:30")
    expect(visitor.tool("order_a_taxi_to_the_airport", "failed")).to_be_visible()
    for summary in visitor.captions.locator("summary").all():
        summary.click()
    yield "live, tools are done and failed", page

    use_tool("show_list", title="Cities", items=CITIES)
    expect(page.get_by_role("heading", name="Cities")).to_be_in_viewport()
    yield "live, a list", page

    say("3", LONG_WORDS, is_final=False)
    expect(visitor.turns("agent", final=False)).to_have_count(2)
    tell("interruption")
    say("3", LONG_WORDS[:60])
    tell("speech_started", emulated=False)
    hear("4", "No, stop. I only want to know the time.")
    tell("speech_stopped")
    expect(visitor.turns("caller")).to_have_count(2)
    expect(visitor.captions.locator("[data-cut]")).to_have_count(1)
    yield "live, cut off", page
    say("5", "It is half past seven.")
    expect(visitor.main).to_have_attribute("data-doing", "listening")

    visitor.mute_button.click()
    expect(visitor.mute_button).to_have_attribute("aria-pressed", "true")
    yield "live, muted", page
    visitor.mute_button.click()

    switch = page.get_by_role("button", name="Captions")
    switch.click()
    expect(switch).to_have_attribute("aria-pressed", "false")
    yield "live, captions hidden", page
    switch.click()

    open_settings(page)
    push_to_talk = page.get_by_label("Push to talk")
    push_to_talk.check()
    yield "live, settings", page
    close_settings(page)
    expect(page.get_by_role("button", name="Hold to talk")).to_be_visible()
    yield "live, push to talk", page
    open_settings(page)
    push_to_talk.uncheck()
    close_settings(page)

    page.evaluate("() => devices.plug('audioinput', 'headset', 'Headset (Bluetooth), 04:f7:e4')")
    visitor.expect_notice("microphone_offered", "Headset")
    yield "live, a new microphone", page
    visitor.notice.get_by_role("button").click()
    visitor.expect_no_notice()

    gate = line.gate
    assert gate
    gate.mode = "shut"
    gate.cut()
    visitor.expect_notice("reconnecting")
    yield "live, reconnecting", page
    gate.mode = "pass"
    visitor.expect_no_notice()

    visitor.hang_up()
    yield "ended", page
    visitor.open()
    expect(page.get_by_text("What is kept of a call")).to_be_visible()
    yield "idle, terms accepted", page


def failures(lines: Lines, login_site: Site, account: tuple[str, str]) -> Iterator[Stop]:
    """A failure for each kind of way out; of "talk here" see `first_call`."""
    visitor = visit(lines, lines.open(*failing(status=500)))
    visitor.open().start()
    visitor.expect_failure("platform_failed")
    yield "failed, try again", visitor.page

    visitor.way_out.click()
    visitor.expect_live()
    visitor.line.delete_room()
    visitor.expect_failure("room_closed")
    yield "failed in mid-call", visitor.page

    visitor.open()
    visitor.page.context.clear_cookies()
    visitor.start()
    visitor.expect_failure("csrf_failed")
    yield "failed, reload", visitor.page

    page = lines.visitors.new(voice=True, ears=False, **STILL).new_page()
    page.goto(login_site.url)
    yield "log in", page
    page.get_by_label("Username").fill(account[0])
    page.get_by_label("Password").fill("not this one")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    yield "log in, refused", page
    page.get_by_label("Username").fill(account[0])
    page.get_by_label("Password").fill(account[1])
    page.get_by_role("button", name="Log in").click()
    caller = Caller(page, login_site.url)
    expect(caller.start_button).to_be_visible()
    yield "idle, logged in, one agent", page
    page.context.clear_cookies(name="sessionid")
    caller.start()
    caller.expect_failure("login_required", SITUATIONS["login_required"]["sentence"])
    yield "failed, log in", page


def other_pages(lines: Lines) -> Iterator[Stop]:
    page = lines.visitors.new(lines.browser, voice=False, ears=False, **STILL).new_page()
    page.goto(lines.site.url)
    expect(page.get_by_role("link", name="Line 1", exact=True)).to_be_visible()
    yield "agents", page
    page.goto(f"{lines.site.url}/nothing-here/")
    yield "not found", page


def catalogue(lines: Lines) -> Iterator[Stop]:
    """Every situation, shown by the page's own code: some of them cannot be provoked, and most take long."""
    page = visit(lines, lines.open()).open().page
    page.evaluate(talk_page())

    def show(state: dict[str, Any]) -> None:
        page.evaluate("state => talkPage.showState(state)", state)

    for code, situation in SITUATIONS.items():
        if situation["kind"] == "failure":
            show(failed(code))
            expect(page.get_by_role("alert")).to_contain_text(situation["title"])
            yield code, page
    show({"name": "microphone", "isUnanswered": True})
    expect(page.locator("#notice")).to_contain_text(SITUATIONS["microphone_unanswered"]["title"])
    yield "microphone_unanswered", page
    show(live())
    for turn, role, text in (("1", "agent", LONG_WORDS), ("2", "caller", "No, thank you.")):
        say = {"role": role, "turn": turn, "text": text, "isFinal": True, "at_ms": int(turn)}
        page.evaluate("say => talkPage.showSay(say)", say)
    for code, situation in SITUATIONS.items():
        if situation["kind"] == "notice" and code != "microphone_unanswered":
            detail = {"detail": "Headset (Bluetooth), 04:f7:e4"} if situation["action"] == "device" else {}
            show(live({"code": code, **detail}))
            expect(page.locator("#notice")).to_contain_text(situation["title"])
            yield code, page
    for code, situation in SITUATIONS.items():
        if situation["kind"] == "failure" and situation["group"] in ("media", "agent", "page"):
            show(failed(code))
            expect(page.get_by_role("alert")).to_contain_text(situation["title"])
            yield f"{code}, after some words", page


def failed(code: str) -> dict[str, Any]:
    return {"name": "failed", "code": code}


def live(*notices: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "live",
        "isAgentHere": True,
        "speaker": None,
        "doing": "listening",
        "isMuted": False,
        "reconnectingSince": None,
        "notices": notices,
    }


# ------------------------------------------------------------------ on the way


def visit(lines: Lines, line: Line, *scripts: str) -> LineCaller:
    visitor = lines.visit(line, *scripts, **STILL)
    # A snapshot of the document for each look would take longer than the looks.
    visitor.page.context.tracing.stop()
    visitor.page.context.tracing.start()
    return visitor


class Held:
    """What a context asks of some address has to wait."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self._waiting: list[Route] | None = []
        context.route(url, self._asked)

    def release(self) -> None:
        """All that wait go on, and whatever comes after them."""
        waiting, self._waiting = self._waiting or [], None
        for route in waiting:
            route.continue_()

    def _asked(self, route: Route) -> None:
        if self._waiting is None:
            route.continue_()
        else:
            self._waiting.append(route)


class HeldToolOutputs:
    """The site's answers to tool calls have to wait."""

    def __init__(self, context: BrowserContext) -> None:
        self._waiting: list[functools.partial[None]] | None = []
        context.route_web_socket(re.compile("/ws/sessions/"), self._connect)

    def release(self) -> None:
        waiting, self._waiting = self._waiting or [], None
        for send in waiting:
            send()

    def _connect(self, page: WebSocketRoute) -> None:
        def pass_on(message: str | bytes) -> None:
            if self._waiting is not None and "tool_call_output" in str(message):
                self._waiting.append(functools.partial(page.send, message))
            else:
                page.send(message)

        page.connect_to_server().on_message(pass_on)


def open_settings(page: Page) -> None:
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_role("heading", name="Settings")).to_be_visible()


def close_settings(page: Page) -> None:
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("heading", name="Settings")).to_be_hidden()


@functools.cache
def talk_page() -> str:
    """A script that gives the document a `talkPage`, as the conversation does when it is loaded."""
    bundle = subprocess.run(
        [
            *("node_modules/.bin/esbuild", "sessions_app/frontend/talk-page.ts"),
            *("--bundle", "--format=iife", "--global-name=bundle", "--log-level=warning"),
        ],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    ignored = (
        "Object.fromEntries(['onStart', 'onHangUp', 'onMute', 'onNotice'].map((wish) => [wish, () => {}]))"
    )
    return f"() => {{ {bundle}; window.talkPage = new bundle.TalkPage({ignored}); }}"
