"""Staff work with a call: two watch it, then it is found, judged, taken away, brought back and deleted."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.caller import PATIENCE_MS, Caller
from tests.e2e.conftest import NewContext, new_account
from tests.e2e.eye import DESKTOP, PHONE, SMALL_PHONE, axe, prepare
from tests.e2e.record import prove, rows
from tests.e2e.servers import Site
from tests.e2e.visitors import Watch

NOTE = re.compile("note", re.IGNORECASE)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
LIST = "/admin/sessions_app/voicesession/"


def log_in(page: Page, site: Site, account: tuple[str, str]) -> Page:
    page.goto(f"{site.url}/admin/")
    page.get_by_label("Username").fill(account[0])
    page.get_by_label("Password").fill(account[1])
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#user-tools")).to_contain_text(account[0], ignore_case=True)
    return page


def page_of(site: Site, session: str) -> str:
    return f"{site.url}{LIST}{session}/change/"


def new_reviewer(site: Site) -> tuple[str, str]:
    """User name and password of somebody in the group that may judge calls, and no more."""
    name, password = "colleague", secrets.token_urlsafe(12)
    site.manage(
        "shell",
        "-c",
        "from django.contrib.auth.models import Group, User\n"
        f"user = User.objects.create_user({name!r}, password={password!r}, is_staff=True)\n"
        "user.groups.add(Group.objects.get(name='reviewer'))",
    )
    return name, password


def line(page: Page, text: str) -> Locator:
    return page.locator("#transcript > li").filter(has_text=text).last


def heads_of(site: Site, session: str) -> list[tuple[str, int, str, int, str]]:
    """Every line of the call's log, as far as an import has to bring it back."""
    return [(row.source, row.seq, row.type, row.at_ms, str(row.data)) for row in rows(site, session)]


def test_a_call_is_watched_found_judged_taken_away_brought_back_and_deleted(
    caller: Caller,
    staff: Page,
    site: Site,
    new_context: NewContext,
    another_site: Callable[..., Site],
    tmp_path: Path,
) -> None:
    caller.call()
    session = caller.session
    colleague = log_in(new_context(voice=False, ears=False).new_page(), site, new_reviewer(site))
    for viewer in (staff, colleague):
        viewer.goto(page_of(site, session))
        expect(viewer.locator("#call-state")).to_have_text("Live", timeout=PATIENCE_MS)
    answer = caller.ask("weather", until="paris")
    question = caller.turn_texts("caller")[-1]
    for viewer in (staff, colleague):
        expect(viewer.locator("#transcript")).to_contain_text(answer, timeout=PATIENCE_MS)
        expect(viewer.locator("#transcript")).to_contain_text("get_weather")
    caller.hang_up()
    expect(staff.locator("#call-state")).to_have_text("Ended", timeout=PATIENCE_MS)
    expect(staff.locator("svg.tl-picture a").first).to_be_attached()

    # Found by a word of it, in its turn.
    prove(staff, site, session)
    staff.goto(f"{site.url}{LIST}")
    words = re.findall(r"\w{3,}", question)  # as it was heard, which is not always what was said
    staff.get_by_role("searchbox").fill(f"{words[-1]} {words[0]}")
    staff.get_by_role("button", name="Search").click()
    hit = staff.locator(".hit").filter(has=staff.locator(f'a[href*="{session}"]')).first
    expect(hit.locator("mark").first).to_be_visible()
    hit.get_by_role("link").click()
    expect(staff.locator("#transcript > li:target")).to_contain_text(question)

    # Judged, while a colleague looks on.
    staff.locator("#transcript > li:target").get_by_role("link", name=NOTE).click()
    staff.get_by_label("Note on this line").fill("Well asked. <b>Ask them</b> for the list.")
    staff.get_by_role("button", name="Save note").click()
    for viewer in (staff, colleague):
        expect(line(viewer, question)).to_contain_text("Well asked. <b>Ask them</b>", timeout=PATIENCE_MS)
    staff.get_by_text("Add a label").click()
    staff.get_by_role("button", name="good", exact=True).click()
    expect(staff.get_by_role("list", name="Labels")).to_contain_text("good")
    staff.get_by_role("button", name="Flag to come back to").click()
    colleague.get_by_role("button", name="Mark as reviewed").click()
    for viewer in (staff, colleague):
        expect(viewer.locator("#call-review")).to_contain_text("Reviewed by colleague", timeout=PATIENCE_MS)
        expect(viewer.locator("#call-review")).to_contain_text("Flagged by staff", timeout=PATIENCE_MS)
    expect(colleague.get_by_role("link", name="Delete this call")).to_have_count(0)
    staff.goto(f"{site.url}{LIST}?has=flag&has=note")
    expect(staff.locator("#result_list")).to_contain_text("good")

    # Taken away, and brought back into an empty database.
    staff.goto(page_of(site, session))
    staff.locator(".call-export summary").click()
    with staff.expect_download() as download:
        staff.locator(".call-export").get_by_role("link", name="JSON").click()
    document = tmp_path / "call.json"
    download.value.save_as(document)
    other = another_site()
    other.manage("import_session", str(document))
    assert heads_of(other, session) == heads_of(site, session)
    other_account = new_account(other, tmp_path)
    reader = log_in(new_context(voice=False, ears=False).new_page(), other, other_account)
    reader.goto(f"{other.url}{LIST}?q=paris")
    expect(reader.locator(".hit").first).to_contain_text(re.compile("paris", re.IGNORECASE))
    reader.goto(page_of(other, session))
    expect(line(reader, question)).to_contain_text("Well asked.")

    # Deleted, with all that was said.
    staff.get_by_role("link", name="Delete this call").click()
    staff.get_by_label("Reason").fill("The caller has asked for it.")
    staff.get_by_role("button", name="Delete this call").click()
    expect(staff.locator(".messagelist")).to_be_visible()
    staff.goto(f"{site.url}{LIST}?q={session}")
    expect(staff.locator("#result_list")).to_have_count(0)
    assert rows(site, session) == []
    staff.goto(f"{site.url}/admin/sessions_app/tombstone/")
    expect(staff.locator("#result_list")).to_contain_text("The caller has asked for it.")


@pytest.fixture(scope="module")
def busy_site(site: Site) -> Site:
    """With more calls in it than anybody has had here."""
    site.manage("seed_calls", "--sessions", "60", "--events", "1500", "--seed", "7", "--add")
    return site


@pytest.fixture
def found(staff: Page, busy_site: Site) -> Page:
    """The page of a call."""
    site = busy_site
    staff.goto(f"{site.url}{LIST}?has=interruption")
    staff.locator("#result_list tbody a").first.click()
    expect(staff.locator("#transcript > li").first).to_be_attached()
    return staff


def test_staffs_pages_are_for_everybody(found: Page, site: Site, watch: Watch) -> None:
    # Of axe, which copies style sheets that others import, as the admin's own do.
    watch.allow("Applying inline style violates")
    word = found.locator("#transcript .words").first.inner_text().split()[0]
    troubles = []
    for name, path in {
        "a call": found.url.removeprefix(site.url),
        "list": LIST,
        "list, filtered": f"{LIST}?has=tool_error&state=ended",
        "search": f"{LIST}?q={word}",
        "nothing found": f"{LIST}?q=xyzzyplugh",
        "overview": f"{LIST}overview/",
        "to delete a call": re.sub("change/.*", "delete/", found.url.removeprefix(site.url)),
        "access log": "/admin/sessions_app/access/",
        "deleted calls": "/admin/sessions_app/tombstone/",
        "labels": "/admin/sessions_app/label/",
        "a new label": "/admin/sessions_app/label/add/",
    }.items():
        found.goto(f"{site.url}{path}")
        prepare(found)
        for size in (SMALL_PHONE, PHONE, DESKTOP):
            found.set_viewport_size(size)
            wide = found.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
            troubles += [f"{name}: {wide} px wider than {size['width']}"] if wide > 0 else []
        for scheme in SCHEMES:
            # The admin fades from one scheme into the other.
            found.emulate_media(color_scheme=scheme)
            found.evaluate("() => document.getAnimations().forEach(fading => fading.finish())")
            troubles += [f"{name}, {scheme}: {trouble}" for trouble in axe(found, scheme)]
    assert not troubles, "\n" + "\n".join(troubles)


def test_all_but_watching_and_listening_works_without_script(
    found: Page, site: Site, new_context: NewContext, staff_account: tuple[str, str]
) -> None:
    words = found.locator("#transcript .words").first.inner_text().split()
    address = found.url
    page = log_in(
        new_context(voice=False, ears=False, java_script_enabled=False).new_page(), site, staff_account
    )
    page.goto(f"{site.url}{LIST}")
    page.get_by_role("searchbox").fill(words[0])
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".hit mark").first).to_be_visible()
    page.goto(f"{site.url}{LIST}overview/")
    expect(page.get_by_role("heading", name="Calls per day")).to_be_visible()
    page.get_by_text("Calls per day as a table").click()
    expect(page.get_by_role("table").first).to_be_visible()

    page.goto(address)
    row = page.locator("#transcript > li").filter(has_text=" ".join(words[:3])).first
    row.get_by_role("link", name=NOTE).click()
    page.get_by_label("Note on this line").fill("Written by hand.")
    page.get_by_role("button", name="Save note").click()
    expect(page.locator("#transcript > li:target")).to_contain_text("Written by hand.")
    page.get_by_text("Add a label").click()
    page.get_by_role("button", name="misheard", exact=True).click()
    expect(page.get_by_role("list", name="Labels")).to_contain_text("misheard")
    page.locator(".call-export summary").click()
    with page.expect_download() as download:
        page.locator(".call-export").get_by_role("link", name=re.compile("text", re.IGNORECASE)).click()
    assert " ".join(words[:3]) in Path(download.value.path()).read_text(encoding="utf-8")

    page.goto(f"{site.url}{LIST}?q={words[0]}&state=ended")
    page.get_by_role("checkbox", name="Choose this call").first.check()
    page.get_by_role("button", name="Delete…").click()
    expect(page.get_by_role("heading", name="Delete calls?")).to_be_visible()
    page.get_by_label("Reason").fill("Chosen by hand.")
    page.get_by_role("button", name="Delete this call").click()
    expect(page.locator(".messagelist")).to_contain_text("1 call was deleted.")
