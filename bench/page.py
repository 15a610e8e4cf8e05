"""What a browser loads for the talk page, counted at the server as it is shipped (compressed, hashed)."""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import Response, sync_playwright

from bench.figures import Figure
from tests.e2e import browser as chromium
from tests.e2e.caller import FAKE_DEVICES, FLAGS, Caller, give_voice
from tests.e2e.servers import start_sandbox, start_site


def measure(_: argparse.Namespace) -> list[Figure]:
    path = chromium.find()
    if path is None:
        sys.exit("No Chromium: run `python -m tests.e2e.browser --install`.")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sandbox = start_sandbox(folder)
        stack.callback(sandbox.stop)
        site = start_site(folder / "site", sandbox)
        stack.callback(site.stop)
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS, *FAKE_DEVICES])
        stack.callback(browser.close)
        context = browser.new_context()
        give_voice(context)
        page = context.new_page()
        responses: list[Response] = []
        page.on("response", lambda response: responses.append(response))
        caller = Caller(page, site.url).open()
        page.wait_for_load_state("networkidle")
        before = list(responses)
        caller.start()
        caller.expect_state("live")
        after = [response for response in responses if response not in before]
        caller.hang_up()
        return [
            Figure("script_gzip_before_click", total(before, "script"), "bytes", 15_000),
            Figure("style_gzip", total(before, "stylesheet"), "bytes"),
            Figure(
                "first_view_bytes",
                sum(transferred(response) for response in before),
                "bytes, with headers",
            ),
            Figure("script_gzip_after_click", total(after, "script"), "bytes"),
        ]


def total(responses: list[Response], kind: str) -> int:
    """Bytes of all scripts or style sheets, each as `gzip -9` makes it."""
    return sum(len(gzip.compress(r.body(), 9)) for r in responses if r.request.resource_type == kind)


def transferred(response: Response) -> int:
    sizes = response.request.sizes()
    return sizes["responseBodySize"] + sizes["responseHeadersSize"]
