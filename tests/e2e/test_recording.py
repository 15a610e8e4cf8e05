"""Staff listen to a call: what they hear is what was said, and the marked turn is the one that is heard."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, Response, expect

from tests.e2e import record
from tests.e2e.caller import Caller
from tests.e2e.conftest import NewContext
from tests.e2e.ear import Sound, likeness
from tests.e2e.servers import Sandbox, Site
from tests.e2e.visitors import Watch

EAR = (Path(__file__).parent / "player_ear.js").read_text()
CALLER, AGENT = "caller", "agent"


class Player:
    """The page of a call, whose recording a member of staff plays and hears."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.audio = page.locator("#recording audio")
        page.goto(url)
        page.evaluate(EAR)

    def line(self, text: str) -> Locator:
        return self.page.locator("#transcript > li").filter(has_text=text).last

    def press_play(self, line: Locator) -> float:
        """The page's time (ms) of it."""
        button = line.get_by_role("button", name="Play from")
        button.focus()
        at = float(self.page.evaluate("() => performance.now()"))
        button.press("Enter")
        expect(line).to_have_attribute("aria-current", "true")
        return at

    def wait_for_end(self) -> None:
        self.page.wait_for_function(
            "() => document.querySelector('#recording audio').ended", timeout=120_000, polling=100
        )

    def taken(self) -> dict[str, Any]:
        taken: dict[str, Any] = self.page.evaluate("() => window.playerEar.take()")
        return taken

    def heard(self, side: str) -> Sound:
        taken = self.taken()
        return Sound.from_page({"pcm": taken[side], "startedAt": taken["startedAt"]})


def between(sound: Sound, from_ms: float, to_ms: float) -> Sound:
    part = sound.since(from_ms)
    return Sound(part.pcm[: int((to_ms - from_ms) * 16)], part.started_ms)


def call_id(site: Site, session: str) -> str:
    rows = record.browser_rows(site, session)
    return str(next(row.data["id"] for row in rows if row.type == "session_started"))


def listenings(site: Site, session: str) -> int:
    """Rows of the access log that tell of somebody's listening to the call."""
    with closing(sqlite3.connect(site.env["DATABASE_PATH"])) as database:
        found = database.execute(
            "SELECT count(*) FROM sessions_app_access WHERE action = 'listen' AND session_id = ?",
            [session.replace("-", "")],
        ).fetchone()
    return int(found[0])


def test_the_recording_is_played_beside_the_transcript(
    caller: Caller, staff: Page, site: Site, sandbox: Sandbox, new_context: NewContext, watch: Watch
) -> None:
    caller.call()
    greeting = caller.turn_texts("agent")[0]
    answer = caller.ask("weather", until="paris")
    question = caller.turn_texts("caller")[-1]
    caller.hang_up()
    session = caller.session
    record.prove(caller.page, site, session)
    url = f"{site.url}/admin/sessions_app/voicesession/{session}/change/"

    parts: list[int] = []

    def note(answer: Response) -> None:
        if "/recording/" in answer.url:
            parts.append(answer.status)

    staff.on("response", note)
    player = Player(staff, url)
    assert listenings(site, session) == 0
    player.press_play(player.line(greeting))
    player.wait_for_end()
    expect(staff.locator("#transcript [aria-current]")).to_have_count(0)
    assert len(parts) > 1, "longer recordings come in parts"
    assert set(parts) == {206}
    assert listenings(site, session) == 1
    taken = player.taken()
    spoken = {CALLER: player.heard(CALLER), AGENT: player.heard(AGENT)}
    assert likeness(f"{greeting} {answer}", spoken[AGENT].words()) >= 0.7
    assert likeness(question, spoken[CALLER].words()) >= 0.7
    assert likeness(greeting, spoken[CALLER].words()) < 0.4, "each side is on its own channel"

    # While a turn is marked, it is what is heard.
    lines = {player.line(text).get_attribute("id"): (side, text) for side, text in (
        (AGENT, greeting), (CALLER, question), (AGENT, answer),
    )}  # fmt: skip
    assert [mark["id"] for mark in taken["marks"] if mark["id"] in lines] == list(lines)
    for mark, following in pairwise(taken["marks"]):
        if mark["id"] in lines:
            side, text = lines[mark["id"]]
            words = between(spoken[side], mark["at"], following["at"]).words()
            assert likeness(text, words) >= 0.7, (text, words)

    # A turn's button plays from that turn.
    pressed = player.press_play(player.line(answer))
    player.wait_for_end()
    words = player.heard(AGENT).since(pressed).words()
    assert likeness(answer, words) >= 0.7
    assert len(words.split()) < 1.5 * len(answer.split()), words
    assert listenings(site, session) == 1, "one player is one listening"

    # Without script the player is the browser's alone.
    plain = new_context(
        voice=False, ears=False, java_script_enabled=False, storage_state=staff.context.storage_state()
    ).new_page()
    plain.goto(url)
    audio = plain.locator("#recording audio[controls]")
    expect(audio).to_be_visible()
    source = audio.get_attribute("src")
    assert source
    part = plain.request.get(f"{site.url}{source}", headers={"Range": "bytes=0-99"})
    assert (part.status, part.body()[:4], len(part.body())) == (206, b"RIFF", 100)
    assert listenings(site, session) == 2

    # Why it does not play is told in a sentence.
    watch.allow("the server responded with a status of 404")
    (kept,) = (sandbox.log.parent / "sandbox" / "recordings").glob(f"{call_id(site, session)}.wav")
    kept.unlink()
    player = Player(staff, url)
    player.press_play(player.line(answer))
    expect(staff.locator("#recording").get_by_role("alert")).to_contain_text("has no recording of this call")
    assert listenings(site, session) == 2
