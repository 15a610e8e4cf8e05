"""The visitor's own transcript, after the call: to copy, and to keep as a file."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import expect

from tests.e2e import provoke
from tests.e2e.lines import LineCaller, Lines

SAID = r"(?m)^.*: Hello, this is the line\.$"

FORBID_COPYING = """() => {
  navigator.clipboard.writeText = async () => { throw new DOMException("Write denied.", "NotAllowedError"); };
}"""


def call_that_is_over(lines: Lines) -> LineCaller:
    caller = lines.visit().call()
    caller.hang_up()
    return caller


def test_transcript_is_copied(lines: Lines) -> None:
    caller = call_that_is_over(lines)
    caller.page.context.grant_permissions([*provoke.PERMISSIONS, "clipboard-read", "clipboard-write"])
    caller.page.get_by_role("button", name="Copy transcript").click()
    expect(caller.page.get_by_text("Copied.")).to_be_visible()
    assert re.search(SAID, caller.page.evaluate("() => navigator.clipboard.readText()"))


def test_browser_that_allows_no_copying(lines: Lines) -> None:
    caller = call_that_is_over(lines)
    # By a policy it could only be forbidden to a page that Playwright answers, and such a page cannot call.
    caller.page.evaluate(FORBID_COPYING)
    caller.page.get_by_role("button", name="Copy transcript").click()
    expect(caller.page.get_by_text("Download the transcript instead.")).to_be_visible()


def test_transcript_is_downloaded(lines: Lines, tmp_path: Path) -> None:
    caller = call_that_is_over(lines)
    with caller.page.expect_download() as download:
        caller.page.get_by_role("button", name="Download transcript").click()
    assert re.fullmatch(r".+-\d{4}-\d\d-\d\d-\d{4}\.txt", download.value.suggested_filename)
    file = tmp_path / "transcript.txt"
    download.value.save_as(file)
    assert re.search(SAID, file.read_text(encoding="utf-8"))
