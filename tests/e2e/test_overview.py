"""The overview's charts, drawn by a real browser under the site's own policy."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.e2e.eye import PHONE
from tests.e2e.servers import Site

OVERVIEW = "/admin/sessions_app/voicesession/overview/"


def test_charts_say_what_their_tables_say_and_follow_the_window(staff: Page, site: Site) -> None:
    site.manage("seed_calls", "--sessions", "40", "--events", "800", "--seed", "11", "--add")
    staff.goto(f"{site.url}{OVERVIEW}?span=90")
    expect(staff.locator(".chart canvas")).to_have_count(3)
    chart = staff.locator("[data-chart=calls]")
    bars = chart.locator(".u-over")
    width = bars.evaluate("area => area.clientWidth")
    legend = chart.locator(".u-series .u-value")
    chart.locator("summary").click()
    for part in (0.02, 0.5, 0.98):
        bars.hover(position={"x": width * part, "y": 60})
        expect(legend.first).to_contain_text("20")
        day, *numbers = (text.replace(",", "") for text in legend.all_inner_texts())
        row = chart.get_by_role("row").filter(has_text=day)
        assert row.get_by_role("cell").all_inner_texts() == numbers

    staff.set_viewport_size(PHONE)
    for picture in chart.page.locator(".uplot").all():
        box = picture.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= PHONE["width"]
