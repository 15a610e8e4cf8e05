"""What a browser loads for the talk page, counted at the server as it is shipped (compressed, hashed)."""

from __future__ import annotations

import argparse
import gzip

from playwright.sync_api import Response

from bench.figures import Figure
from bench.stage import stage
from tests.e2e.caller import Caller, give_voice


def measure(_: argparse.Namespace) -> list[Figure]:
    with stage() as on:
        context = on.browser.new_context()
        give_voice(context)
        page = context.new_page()
        responses: list[Response] = []
        page.on("response", lambda response: responses.append(response))
        caller = Caller(page, on.site.url).open()
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
