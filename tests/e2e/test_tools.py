"""Tools: asked for by voice, run by the server or by the page, their results spoken."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.e2e.caller import Caller
from tests.e2e.servers import Site


def test_server_tool_is_asked_for_and_its_result_is_spoken(caller: Caller) -> None:
    caller.call()
    answer = caller.ask("weather", until="paris")
    tool = caller.tool("get_weather")
    expect(tool).to_be_attached()
    temperature = re.search(r"temperature_c\D+(-?\d+)", tool.text_content() or "")
    assert temperature, "the tool's result is on the page"
    assert temperature[1].lstrip("-") in answer


def test_page_tool_changes_the_page(caller: Caller) -> None:
    caller.call()
    caller.ask("dark", until="dark")
    expect(caller.page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(caller.tool("set_theme")).to_be_attached()
    caller.ask("list", until="cities")
    expect(caller.tool("show_list")).to_be_attached()


def test_booking_over_several_turns_is_a_row_in_the_admin(caller: Caller, staff: Page, site: Site) -> None:
    caller.call()
    caller.ask("table", until="how many")
    caller.ask("people", until="four.* day")
    caller.ask("tomorrow", until="tomorrow.* time")
    caller.ask("half_past_seven", until="four.*7:30")
    caller.ask("no", until="five.*7:30")
    caller.ask("yes", until="B1[0-9]+|B 1|reference")
    expect(caller.tool("book_table")).to_be_attached()

    staff.goto(f"{site.url}/admin/")
    staff.get_by_role("rowheader", name="Bookings").get_by_role("link").click()
    row = staff.locator("#result_list tbody tr").first
    expect(row.locator(".field-people")).to_have_text("5")
    expect(row).to_contain_text(re.compile(r"7:30 p\.m\.|19:30"))
