"""A visitor's browser with the talk page open, for tests of what the site says to it."""

import json
import re
from typing import Any

from django.test import Client


class Page:
    """What the page tells its script, and the start of a call as the script asks for it."""

    def __init__(self, path: str = "/", client: Client | None = None, *, address: str = "127.0.0.1") -> None:
        self.client = client or Client(enforce_csrf_checks=True)
        self.address = address
        self.html = self.client.get(path).content.decode()
        found = re.search(r'<meta name="csrf-token" content="(\w+)"', self.html)
        assert found is not None, self.html
        self.csrf = found[1]
        self.consent = self.data("consent")

    def data(self, name: str) -> str:
        """A data attribute of the page's main element."""
        found = re.search(rf'<main id="talk"[^>]* data-{name}="([^"]*)"', self.html, re.DOTALL)
        assert found is not None, name
        return found[1]

    def start(self) -> Any:
        """The answer to a click on the start button."""
        return self.mint({"agent_id": self.data("agent-id"), "consent": self.consent})

    def mint(self, body: Any, **headers: str) -> Any:
        """The answer to a request for a call: bytes and texts as they are, anything else as JSON."""
        content = body if isinstance(body, (str, bytes)) else json.dumps(body)
        return self.client.post(
            "/sessions/",
            content,
            content_type="application/json",
            headers={"X-CSRFToken": self.csrf, **headers},
            REMOTE_ADDR=self.address,
        )

    @property
    def visitor(self) -> str:
        return str(self.client.session["visitor"])
