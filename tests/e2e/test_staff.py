"""Staff watch a call while it runs."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.e2e.caller import Caller
from tests.e2e.servers import Site


def shown_rows(page: Page) -> list[tuple[int, str, int]]:
    """(at_ms, source, seq) of each row, in the order of the page."""
    found = page.locator("#transcript > li[data-seq]").evaluate_all(
        "rows => rows.map(r => [Number(r.dataset.atMs), r.dataset.source, Number(r.dataset.seq)])"
    )
    return [(at_ms, source, seq) for at_ms, source, seq in found]


def test_rows_appear_live_in_order_and_are_the_same_after_a_reload(
    caller: Caller, staff: Page, site: Site
) -> None:
    caller.call()
    session = caller.main.get_attribute("data-session")
    staff.goto(f"{site.url}/admin/sessions_app/voicesession/{session}/change/")
    transcript = staff.locator("#transcript")
    greeting = caller.turn_texts("agent")[0]
    expect(transcript).to_contain_text(greeting)
    loaded = staff.evaluate("() => performance.timeOrigin")

    answer = caller.ask("weather", until="paris")
    question = caller.turn_texts("caller")[-1]
    expect(transcript).to_contain_text(answer)
    expect(transcript).to_contain_text(question)
    expect(transcript).to_contain_text("get_weather")
    caller.hang_up()
    expect(transcript).to_have_attribute("data-state", "ended")
    assert staff.evaluate("() => performance.timeOrigin") == loaded, "the page was not loaded again"

    live = shown_rows(staff)
    assert live == sorted(live), "rows stand in the order of the conversation"
    assert len(set(live)) == len(live), "no row stands there twice"
    staff.reload()
    assert shown_rows(staff) == live
    words = transcript.inner_text()
    assert words.index(greeting) < words.index(question) < words.index("get_weather") < words.index(answer)
