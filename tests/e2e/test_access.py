"""The talk page is for everybody: in every state, in light and dark, by keyboard alone, on any screen."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from playwright.sync_api import Page, expect

from tests.e2e import tour
from tests.e2e.caller import SITUATIONS
from tests.e2e.eye import Eye, prepare
from tests.e2e.lines import Lines
from tests.e2e.servers import Site
from tests.e2e.visitors import Watch

NETWORK_LOG = r"Failed to load resource: "  # Chromium's own line for an answer that is not 2xx
NO_LINE = r"WebSocket connection to .* failed"

FOCUS = """() => {
  const main = document.getElementById("talk");
  const places = (window.places = []);
  const look = () => {
    const { id, tagName } = document.activeElement ?? document.body;
    places.push([main.dataset.state, id || tagName.toLowerCase()]);
  };
  // Two frames later the browser has noticed that what had the focus is gone.
  const later = () => requestAnimationFrame(() => requestAnimationFrame(look));
  new MutationObserver(later).observe(main, { attributes: true });
}"""
"""Keeps where the focus is after each change of the page's state."""


def look_at(stops: Iterable[tour.Stop], look: Callable[[Eye, str, Page], None] = Eye.look) -> list[str]:
    """Look at every stop of a tour; returns their names. Raises AssertionError with all that was found."""
    eye = Eye()
    for state, page in stops:
        look(eye, state, page)
    assert not eye.found, "\n" + "\n".join(eye.found)
    return eye.seen


def test_a_call_from_its_first_sight_to_its_end(lines: Lines, watch: Watch) -> None:
    watch.allow(NO_LINE)
    watch.allow(NETWORK_LOG)
    look_at(tour.first_call(lines))


def test_failures(lines: Lines, login_site: Site, account: tuple[str, str], watch: Watch) -> None:
    watch.allow(NETWORK_LOG)
    look_at(tour.failures(lines, login_site, account))


def test_pages_beside_the_talk_page(lines: Lines, watch: Watch) -> None:
    watch.allow(NETWORK_LOG)
    look_at(tour.other_pages(lines))


def test_every_situation_of_the_catalogue_has_room(lines: Lines) -> None:
    assert set(look_at(tour.catalogue(lines), Eye.glance)) >= set(SITUATIONS)


def test_whole_call_by_keyboard_alone(lines: Lines) -> None:
    visitor = lines.visit()
    page = visitor.open().page
    page.evaluate(FOCUS)

    tab_to(page, "#start")
    page.keyboard.press("Enter")
    visitor.expect_live()

    page.keyboard.press("Alt+M")
    expect(visitor.mute_button).to_have_attribute("aria-pressed", "true")
    visitor.expect_caller_silent()
    page.keyboard.press("Alt+M")
    expect(visitor.mute_button).to_have_attribute("aria-pressed", "false")
    visitor.expect_caller_heard()

    tab_to(page, "[popovertarget=settings]")
    page.keyboard.press("Enter")
    tab_to(page, "#push-to-talk")
    page.keyboard.press("Space")
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="Settings")).to_be_hidden()
    expect(page.locator("[popovertarget=settings]").first).to_be_focused()
    expect(visitor.mute_button).to_have_attribute("aria-pressed", "true")

    hold_to_talk = page.get_by_role("button", name="Hold to talk")
    tab_to(page, "#talk-key")
    page.keyboard.down("Space")
    expect(hold_to_talk).to_have_attribute("aria-pressed", "true")
    visitor.expect_caller_heard()
    page.keyboard.up("Space")
    expect(hold_to_talk).to_have_attribute("aria-pressed", "false")
    visitor.expect_caller_silent()

    page.keyboard.press("Alt+H")
    visitor.expect_state("ended")
    expect(visitor.start_button).to_be_focused()
    page.keyboard.press("Enter")
    visitor.expect_live()
    page.keyboard.press("Alt+H")
    visitor.expect_state("ended")

    places = page.evaluate("() => places")
    assert {state for state, _ in places} >= {"connecting", "live", "ended"}
    assert not [state for state, place in places if place == "body"], places


def test_screen_readers_get_turns_once_they_are_finished(lines: Lines) -> None:
    visitor = lines.visit().call()
    line, agent = visitor.line, visitor.agent

    line.do(agent.tell("response_text", text="It is half", turn_id="1", is_final=False))
    expect(visitor.captions).to_contain_text("It is half")
    assert "It is half" not in visitor.captions.aria_snapshot()
    line.do(agent.tell("response_text", text="It is half past seven.", turn_id="1", is_final=True))
    expect(visitor.turns("agent")).to_have_count(2)
    assert "It is half past seven." in visitor.captions.aria_snapshot()

    line.do(agent.tell("input_audio_transcript", transcript="Thank", turn_id="2", is_final=False))
    expect(visitor.captions).to_contain_text("Thank")
    assert "Thank" not in visitor.captions.aria_snapshot()
    line.do(agent.tell("input_audio_transcript", transcript="Thank you.", turn_id="2", is_final=True))
    expect(visitor.turns("caller")).to_have_count(1)
    assert "Thank you." in visitor.captions.aria_snapshot()

    # A turn that the end of the call has cut off is finished, too.
    line.do(agent.tell("response_text", text="You are", turn_id="3", is_final=False))
    expect(visitor.captions).to_contain_text("You are")
    visitor.hang_up()
    assert "You are" in visitor.captions.aria_snapshot()


def test_newest_words_stay_in_sight_of_those_who_do_not_read_back(lines: Lines) -> None:
    page = lines.visit(**tour.STILL).open().page
    page.evaluate(tour.talk_page())
    page.evaluate("state => talkPage.showState(state)", tour.live())
    for number in range(12):
        say = {
            "role": "agent",
            "turn": f"{number}",
            "text": tour.LONG_WORDS,
            "isFinal": True,
            "at_ms": number,
        }
        page.evaluate("say => talkPage.showSay(say)", say)
    newest = page.locator("#captions li.say").last
    expect(newest).to_be_in_viewport()
    # Words and, before the page has moved to them, something as tall as the window.
    page.evaluate("""() => new Promise((done) => {
      talkPage.showSay({ role: "agent", turn: "12", text: "Here you are.", isFinal: true, at_ms: 12 });
      requestAnimationFrame(() => setTimeout(() => {
        talkPage.showList("Numbers", Array.from({ length: 30 }, (_, number) => `Number ${number}`));
        requestAnimationFrame(() => requestAnimationFrame(done));
      }));
    })""")
    expect(page.get_by_text("Number 29")).to_be_in_viewport()
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.get_by_text("Number 29")).to_be_in_viewport()

    # Somebody who reads back is not disturbed.
    page.locator("#captions li.say").first.scroll_into_view_if_needed()
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    say = {"role": "caller", "turn": "13", "text": "Thank you.", "isFinal": True, "at_ms": 13}
    page.evaluate("say => talkPage.showSay(say)", say)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    expect(page.locator("#captions li.say").first).to_be_in_viewport()


def test_moves_only_for_those_who_want_it(lines: Lines) -> None:
    visitor = lines.visit()
    script = tour.Held(visitor.page.context, "**/dist/conversation*.js")
    page = visitor.open().start().page
    visitor.expect_state("loading")
    prepare(page)
    assert page.evaluate("() => eye.look().moving")
    page.emulate_media(reduced_motion="reduce")
    assert not page.evaluate("() => eye.look().moving")
    script.release()
    visitor.expect_live()
    visitor.hang_up()


def test_what_is_on_and_off_can_be_told_apart_without_colours(lines: Lines) -> None:
    visitor = lines.visit(**tour.STILL, forced_colors="active").call()
    page = visitor.page
    page.mouse.move(1, 1)
    for shortcut, button in (("Alt+M", visitor.mute_button), ("Enter", page.locator("#captions-switch"))):
        if shortcut == "Enter":
            button.focus()
        before, off = button.get_attribute("aria-pressed"), button.screenshot()
        page.keyboard.press(shortcut)
        expect(button).not_to_have_attribute("aria-pressed", before or "")
        assert button.screenshot() != off, f"{button} looks the same on and off"
    tour.open_settings(page)
    backgrounds = page.locator("#caption-size label").evaluate_all(
        """labels => labels.map((label) => [
          label.querySelector("input").checked, getComputedStyle(label).backgroundColor])"""
    )
    checked = {colour for is_checked, colour in backgrounds if is_checked}
    unchecked = {colour for is_checked, colour in backgrounds if not is_checked}
    assert len(checked) == len(unchecked) == 1
    assert checked != unchecked


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until what matches has the focus."""
    for _ in range(30):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the Tab key does not reach {selector}")
