"""The talk page is light and quiet: what is loaded when, and that nothing is said on the console."""

from __future__ import annotations

import gzip
import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Response, expect

from tests.e2e.lines import Lines
from tests.e2e.visitors import Watch

SCRIPT_LIMIT = 12_000
FIRST_VIEW_LIMIT = 40_000
LATE = re.compile(r"/dist/(conversation|vatel-sdk)[.\w]*\.js")

VIOLATIONS = """(() => {
  window.violations = [];
  addEventListener("securitypolicyviolation", (event) => {
    violations.push(`${event.violatedDirective}: ${event.blockedURI.split("?")[0]}`);
  });
})()"""


def loaded(page: Page, url: str) -> list[Response]:
    """All that the first sight of a page loads."""
    responses: list[Response] = []
    page.on("response", lambda response: responses.append(response))
    page.goto(url)
    return list(responses)


def test_first_view_is_light(lines: Lines) -> None:
    visitor = lines.visit()
    responses = loaded(visitor.page, visitor.url)
    scripts = [response for response in responses if response.request.resource_type == "script"]
    assert [re.sub(r".*/dist/(\w+)\..*", r"\1", script.url) for script in scripts] == ["talk"]
    assert sum(len(gzip.compress(script.body(), 9)) for script in scripts) <= SCRIPT_LIMIT

    parts = {response.url: transferred(response) for response in responses}
    # Headless browsers leave it out.
    icon = visitor.page.locator("link[rel=icon]").get_attribute("href")
    parts[f"{icon}"] = size_of(f"{lines.site.url}{icon}")
    assert sum(parts.values()) <= FIRST_VIEW_LIMIT, parts
    for response in responses:
        assert response.status == 200
        if response.request.resource_type in ("script", "stylesheet"):
            assert response.header_value("content-encoding") in ("gzip", "br"), response.url


def transferred(response: Response) -> int:
    sizes = response.request.sizes()
    return sizes["responseBodySize"] + sizes["responseHeadersSize"]


def size_of(url: str) -> int:
    answer = httpx.get(url)
    assert answer.status_code == 200
    return answer.num_bytes_downloaded + sum(len(name) + len(value) + 4 for name, value in answer.headers.raw)


@pytest.mark.parametrize("sign", ["hover", "focus"])
def test_rest_is_loaded_when_a_call_is_likely(sign: str, lines: Lines) -> None:
    visitor = lines.visit()
    page = visitor.page
    assert not [response.url for response in loaded(page, visitor.url) if LATE.search(response.url)]
    with (
        page.expect_response(re.compile("/dist/conversation")) as conversation,
        page.expect_response(re.compile("/dist/vatel-sdk")) as sdk,
    ):
        if sign == "hover":
            visitor.start_button.hover()
        else:
            visitor.start_button.focus()
    assert conversation.value.ok
    assert sdk.value.ok


def test_call_with_tools_says_nothing_on_the_console(lines: Lines, watch: Watch) -> None:
    visitor = lines.visit(None, VIOLATIONS).call()
    page, line, agent = visitor.page, visitor.line, visitor.agent

    def use_tool(name: str, **values: Any) -> None:
        arguments = [{"name": key, "value": value} for key, value in values.items()]
        line.do(agent.tell("tool_call", toolCallId=name, toolName=name, arguments=arguments))
        expect(visitor.tool(name)).to_be_attached()

    use_tool("get_weather", city="Lisbon")
    use_tool("set_theme", theme="dark")
    use_tool("show_list", title="Cities", items=["Lisbon", "Kyoto"])
    visitor.mute_button.click()
    visitor.mute_button.click()
    visitor.expect_caller_heard()
    visitor.hang_up()
    visitor.expect_nothing_open()
    assert page.evaluate("() => violations") == []
    assert watch.lines == []
    assert watch.errors == []
