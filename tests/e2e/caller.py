"""A caller in a browser: opens the talk page, speaks WAV files into its microphone, hears what it plays."""

from __future__ import annotations

import base64
import io
import json
import re
import wave
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.e2e.ear import Sound

HERE = Path(__file__).parent
SITUATIONS: dict[str, dict[str, str]] = json.loads(
    (HERE.parents[1] / "sessions_app" / "situations.json").read_text()
)
BUTTONS = {
    "again": "Try again",
    "reload": "Reload the page",
    "login": "Log in",
    "agents": "See all agents",
    "here": "Talk here instead",
    "unblock": "Turn on the sound",
    "microphone": "Use my microphone again",
    "device": "Use it",
    "dismiss": "Close",
}
"""What a situation's action is called on the page."""
FILLER = "One moment, please."
"""What the sandbox's agent says when a tool takes long."""
START = re.compile("^(Start talking|Agree and start talking|Talk again)$")
RAW = re.compile(r"Error:|DOMException|eyJ|undefined|NaN|\[object ")
"""What no page may show: an exception's text, a token, a value that was not there."""
SPEECH = HERE / "speech"
PATIENCE_MS = 30_000  # a machine with two busy cores is slow, not wrong

NO_FEATURES = (
    # A window's address bar loads two pages of its own, which cost a core a second for each visitor.
    *("WebUIOmniboxPopup", "WebUIOmniboxAimPopup"),
    # Playwright's own, as Chromium goes by the last of these flags only.
    *("AimEnabled", "AvoidCorsURLLoaderRestartOnRedirect", "AvoidUnnecessaryBeforeUnloadCheckSync"),
    *("DestroyProfileOnBrowserClose", "HttpsFirstBalancedModeAutoEnable", "HttpsUpgrades", "LensOverlay"),
    *("MediaRouter", "NetworkTimeServiceQuerying", "OptimizationHints", "PaintHolding", "PreconnectToSearch"),
    *("ThirdPartyStoragePartitioning",),
)
FLAGS = [
    f"--disable-features={','.join(NO_FEATURES)}",
    "--no-sandbox",  # CI runs as root
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
FAKE_DEVICES = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]

WATCH_TROUBLES = """() => {
  const main = document.getElementById("talk");
  const troubles = window.troubles = [];
  let state = main.dataset.state;
  new MutationObserver(() => {
    if (main.dataset.situation) troubles.push(main.dataset.situation);
    if (main.dataset.state !== state) troubles.push(state = main.dataset.state);
  }).observe(main, { attributes: true });
}"""


@dataclass(frozen=True)
class Said:
    """When a sentence started and ended, on the page's clock (ms, `performance.now`)."""

    starts: float
    ends: float


def joined(names: Iterable[str]) -> bytes:
    """One WAV of several."""
    whole = io.BytesIO()
    with wave.open(whole, "wb") as out:
        for name in names:
            with wave.open(str(SPEECH / f"{name}.wav")) as part:
                if not out.getnframes():
                    out.setparams(part.getparams())
                out.writeframes(part.readframes(part.getnframes()))
    return whole.getvalue()


def give_voice(context: BrowserContext) -> None:
    """Pages of this context get a microphone that speaks on cue."""
    context.add_init_script(path=HERE / "microphone.js")


def give_ears(context: BrowserContext) -> None:
    """Pages of this context keep what they play."""
    context.add_init_script(path=HERE / "ear.js")


class Caller:
    """What a visitor does on the talk page, in a visitor's words."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.main = page.locator("#talk")
        self.status = page.locator("#status")
        self.alert = page.get_by_role("alert")
        self.notice = page.locator("#notice")
        self.standing = page.locator("#standing")
        self.start_button = page.get_by_role("button", name=START)
        self.mute_button = page.locator("#mute")
        self.hang_up_button = page.get_by_role("button", name="Hang up")
        self.captions = page.get_by_role("log", name="Captions")

    @property
    def session(self) -> str:
        """The site's id of the call that the page shows."""
        session = self.main.get_attribute("data-session")
        assert session, "the page shows no call"
        return session

    def open(self) -> Self:
        self.page.goto(self.url)
        return self

    def start(self) -> Self:
        self.start_button.click()
        return self

    def expect_state(self, state: str, timeout_ms: float = PATIENCE_MS) -> None:
        expect(self.main).to_have_attribute("data-state", re.compile(f"^({state})$"), timeout=timeout_ms)

    @property
    def way_out(self) -> Locator:
        """The one button of the failure that the page shows."""
        code = self.main.get_attribute("data-situation")
        assert code, "the page shows no failure"
        return self.page.get_by_role("button", name=BUTTONS[SITUATIONS[code]["action"]], exact=True)

    def expect_failure(self, code: str, sentence: str | re.Pattern[str] = "") -> None:
        """Wait for the end of a call by this situation: said in its words, or in the site's own sentence."""
        situation = SITUATIONS[code]
        assert situation["kind"] == "failure"
        self.expect_state("failed", timeout_ms=60_000)
        expect(self.main).to_have_attribute("data-situation", code)
        expect(self.alert.get_by_role("heading")).to_have_text(situation["title"])
        expect(self.alert.locator("p")).to_have_text(sentence or situation["sentence"])
        expect(self.way_out).to_be_visible()
        expect(self.hang_up_button).to_be_hidden()
        expect(self.notice).to_be_hidden()
        self.expect_plain()

    def expect_notice(self, code: str, detail: str = "", timeout_ms: float = PATIENCE_MS) -> None:
        """Wait until this situation is the most urgent one of a call that goes on."""
        situation = SITUATIONS[code]
        assert situation["kind"] == "notice"
        expect(self.main).to_have_attribute("data-situation", code, timeout=timeout_ms)
        expect(self.notice).to_be_visible()
        for text in (situation["title"], situation["sentence"], detail):
            expect(self.notice).to_contain_text(text)
        button = self.notice.get_by_role("button")
        if situation["action"] == "none":
            expect(button).to_have_count(0)
        else:
            expect(button).to_have_text(BUTTONS[situation["action"]])
        expect(self.alert).to_be_hidden()
        self.expect_plain()

    def notice_button(self, code: str) -> Locator:
        return self.notice.get_by_role("button", name=BUTTONS[SITUATIONS[code]["action"]], exact=True)

    def expect_no_notice_of(self, code: str) -> None:
        expect(self.main).not_to_have_attribute("data-situation", code, timeout=PATIENCE_MS)

    def expect_no_notice(self, timeout_ms: float = PATIENCE_MS) -> None:
        expect(self.main).to_have_attribute("data-situation", "", timeout=timeout_ms)
        expect(self.notice).to_be_hidden()

    def expect_plain(self) -> None:
        """Nothing on the page is for programmers only."""
        expect(self.page.locator("body")).not_to_contain_text(RAW, use_inner_text=True)

    def call(self) -> Self:
        """Open the page, start a call and wait until the greeting has been spoken to its end."""
        self.open().start()
        self.expect_state("live")
        self.expect_turns("agent", 1)
        return self

    def hang_up(self) -> None:
        self.hang_up_button.click()
        self.expect_state("ended")

    def say(self, *names: str, to_the_end: bool = True) -> Said:
        """Speak speech/NAME.wav, several in one breath."""
        wav = base64.b64encode(joined(names)).decode()
        times = self.page.evaluate("wav => window.microphone.say(wav)", wav)
        if to_the_end:
            self.page.evaluate("() => window.microphone.finished")
        return Said(times["starts"], times["ends"])

    def ask(self, name: str, until: str = "") -> str:
        """Speak a sentence, and wait for the agent's next complete reply; returns its text.

        What it says while a tool keeps it waiting is no reply yet.

        A reply that does not match `until` (case ignored) was to something misheard: the recogniser is
        a small one. The sentence is then said again, as a person would, three times at most.
        """
        replies = []
        for _ in range(3):
            before = self.replies().count()
            self.say(name)
            expect(self.replies().nth(before)).to_be_attached(timeout=PATIENCE_MS)
            replies.append(self.replies().nth(before).locator("[data-text]").inner_text().strip())
            if re.search(until, replies[-1], re.IGNORECASE):
                return replies[-1]
        raise AssertionError(f"no answer to {name!r} matches {until!r}: {replies}")

    def ask_for(self, tool: str, name: str) -> None:
        """Speak a sentence, and wait until the agent has asked for the tool; again, if it was misheard."""
        for _ in range(3):
            replies = self.turns("agent").count()
            asked = self.tool(tool, "running")
            self.say(name)
            expect(asked.or_(self.turns("agent").nth(replies)).first).to_be_attached(timeout=PATIENCE_MS)
            if asked.count():
                return
        raise AssertionError(f"{name!r} does not make the agent ask for {tool}: {self.turn_texts('agent')}")

    def turns(self, role: str, *, final: bool = True) -> Locator:
        state = '[data-final="true"]' if final else ""
        return self.captions.locator(f'li[data-role="{role}"]{state}')

    def replies(self) -> Locator:
        """The agent's complete turns, but for those that only ask for patience."""
        return self.turns("agent").filter(has_not_text=FILLER)

    def turn_texts(self, role: str) -> list[str]:
        return [text.strip() for text in self.turns(role).locator("[data-text]").all_inner_texts()]

    def expect_turns(self, role: str, at_least: int) -> None:
        """Wait for so many complete turns of "caller" or "agent", and for an agent that has said its say."""
        expect(self.turns(role).nth(at_least - 1)).to_be_attached(timeout=PATIENCE_MS)

    def expect_speaking(self, role: str, turn: int) -> None:
        """Wait for a few words of a party's turn, counted from 1: they are in step with the voice."""
        words = self.turns(role, final=False).nth(turn - 1).locator("[data-text]")
        expect(words).to_have_text(re.compile(r"(\S+\s+){3}"), timeout=PATIENCE_MS)

    def expect_said(self, role: str, pattern: str) -> None:
        """Wait for a complete turn whose text matches `pattern` (case ignored)."""
        wanted = self.turns(role).filter(has_text=re.compile(pattern, re.IGNORECASE))
        expect(wanted.first).to_be_attached(timeout=PATIENCE_MS)

    def tool(self, name: str, state: str = "done") -> Locator:
        return self.page.locator(f'li[data-tool="{name}"][data-state="{state}"]')

    def watch_troubles(self) -> None:
        """From now on, `troubles` notes each change of the call's state, and each trouble of its line."""
        self.page.evaluate(WATCH_TROUBLES)

    def troubles(self) -> list[str]:
        return list(self.page.evaluate("() => window.troubles"))

    def heard(self) -> Sound:
        """All that the page has played so far."""
        return Sound.from_page(self.page.evaluate("() => window.ear.take()"))

    def now_ms(self) -> float:
        return float(self.page.evaluate("() => performance.now()"))

    def expect_audible(self, since_ms: float) -> None:
        """Wait until the page plays something loud after the page's time `since_ms`."""
        self._expect_level(since_ms, loud=True)

    def expect_silent(self, since_ms: float) -> None:
        """Wait until the last half second of what the page plays is silent."""
        self._expect_level(since_ms, loud=False)

    def _expect_level(self, since_ms: float, *, loud: bool) -> None:
        self.page.wait_for_function(
            "([since, loud]) => window.ear.isLoud(since) === loud", arg=[since_ms, loud], timeout=PATIENCE_MS
        )
