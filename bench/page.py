"""The talk page as the site ships it: weight, Lighthouse's marks, and how long a click waits for the agent.

`click_to_audible_s`            with the call's scripts fetched when a call is likely, as shipped
`click_to_audible_one_script_s` with all of them loaded before the click
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import statistics
import sys
from collections.abc import Callable

import httpx
from playwright.sync_api import BrowserContext, Page, Response, Route

from bench import lighthouse
from bench.figures import Figure
from bench.stage import Stage, stage
from tests.e2e.caller import Caller, give_ears, give_voice
from tests.e2e.test_weight import FIRST_VIEW_LIMIT, SCRIPT_LIMIT, loaded, size_of, transferred

TALK = re.compile(r"/dist/talk[.\w]*\.js$")
HOVER_MS = 150
"""From the pointer's arrival on the button to the click: less than people take."""


def measure(arguments: argparse.Namespace) -> list[Figure]:
    with stage() as on:
        return [*weight(on), *marks(on), *waits(on, arguments.calls)]


def weight(on: Stage) -> list[Figure]:
    context = on.browser.new_context()
    page = context.new_page()
    before = loaded(page, on.site.url)
    icon = page.locator("link[rel=icon]").get_attribute("href")
    total = sum(transferred(response) for response in before) + size_of(f"{on.site.url}{icon}")
    caller = Caller(page, on.site.url)
    with (
        page.expect_response("**/vatel-sdk*.js") as sdk,
        page.expect_response("**/conversation*.js") as conversation,
    ):
        caller.start_button.hover()
    figures = [
        Figure("script_gzip_before_click", gzipped(before, "script"), "bytes", SCRIPT_LIMIT),
        Figure("style_gzip", gzipped(before, "stylesheet"), "bytes"),
        Figure("document_gzip", gzipped(before, "document"), "bytes"),
        Figure("first_view_bytes", total, "bytes, with headers and icon", FIRST_VIEW_LIMIT),
        Figure("conversation_gzip", size(conversation.value), "bytes, fetched when a call is likely"),
        Figure("sdk_gzip", size(sdk.value), "bytes, fetched when a call is likely"),
    ]
    context.close()
    return figures


def gzipped(responses: list[Response], kind: str) -> int:
    return sum(size(response) for response in responses if response.request.resource_type == kind)


def size(response: Response) -> int:
    """Bytes as `gzip -9` makes it."""
    return len(gzip.compress(response.body(), 9))


def marks(on: Stage) -> list[Figure]:
    report = lighthouse.audit(on.site.url)
    for line in report.missing:
        say(f"lighthouse {line}")
    return [
        Figure(f"lighthouse.{name.replace('-', '_')}", mark, "of 100, mobile", at_least=100)
        for name, mark in report.marks.items()
    ]


def waits(on: Stage, calls: int) -> list[Figure]:
    """From the click to the agent's first sound, both ways in turns."""
    ways: dict[str, Callable[[Page, str], None]] = {"": pass_on, "one_script_": load_all_first}
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(calls):
        for way, prepare in ways.items():
            context = on.browser.new_context()
            give_voice(context)
            give_ears(context)
            found[way].append(wait(context, on.site.url, prepare))
            context.close()
        say(f"click {number + 1}: " + " ".join(f"{found[way][-1]:.2f}" for way in ways))
    shipped, all_first = (statistics.median(found[way]) for way in ways)
    return [
        Figure("click_to_audible_s", round(shipped, 3), "s, median", 1.2),
        Figure("click_to_audible_one_script_s", round(all_first, 3), "s, median"),
        Figure("click_to_audible_ratio", round(shipped / all_first, 3), "shipped to one script", 1.05),
    ]


def wait(context: BrowserContext, url: str, prepare: Callable[[Page, str], None]) -> float:
    page = context.new_page()
    prepare(page, url)
    caller = Caller(page, url).open()
    page.wait_for_load_state("networkidle")
    caller.start_button.hover()
    page.wait_for_timeout(HOVER_MS)
    caller.start()
    caller.expect_turns("agent", 1)
    clicked = float(page.evaluate("() => window.ear.clickedAt"))
    heard = caller.heard().loud()[0] - clicked
    caller.hang_up()
    return heard / 1000


def pass_on(page: Page, url: str) -> None:
    """As shipped, but through the same gate as the other way, which costs each request a little."""
    page.route(TALK, lambda route: route.continue_())


def load_all_first(page: Page, url: str) -> None:
    """The page's script first imports the call's scripts, by the addresses that it would use later."""
    html = httpx.get(url).text
    addresses = [attribute(html, "data-conversation-url"), attribute(html, "data-sdk-url")]

    def answer(route: Route) -> None:
        shipped = f"{route.request.url}?shipped"
        script = "".join(f"import {json.dumps(address)};\n" for address in [*addresses, shipped])
        route.fulfill(body=script, content_type="text/javascript")

    page.route(TALK, answer)


def attribute(html: str, name: str) -> str:
    found = re.search(f'{name}="([^"]+)"', html)
    assert found, f"the page has no {name}"
    return found[1]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
