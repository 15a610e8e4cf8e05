"""The pages themselves: who the visitor is, and what the headers allow the browser."""

import re

from django.db import OperationalError, connection
from django.test import Client, TestCase, override_settings

from .platform import platform


def directives(header: str) -> dict[str, str]:
    return dict(part.strip().split(" ", 1) for part in header.split(";"))


class PageTests(TestCase):
    def test_talk_page_names_the_agent_and_remembers_the_visitor(self) -> None:
        with platform():
            first = self.client.get("/")
            visitor = self.client.session["visitor"]
            second = self.client.get("/")
        assert (first.status_code, second.status_code) == (200, 200)
        assert "Concierge" in first.content.decode()
        assert re.fullmatch(r"[0-9a-f]{32}", visitor)
        assert self.client.session["visitor"] == visitor
        other = Client()
        other.get("/")
        assert other.session["visitor"] != visitor

    def test_scripts_and_connections_are_our_own_and_the_media_servers(self) -> None:
        policy = directives(self.client.get("/").headers["Content-Security-Policy"])
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": "'self'",
            "font-src": "'self'",
            "connect-src": "'self' ws://127.0.0.1:7880 http://127.0.0.1:7880",
            "media-src": "'self'",
            "manifest-src": "'self'",
            "form-action": "'self'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
            "object-src": "'none'",
        }

    def test_headers_of_every_answer(self) -> None:
        for path in ("/", "/login/", "/healthz", "/admin/login/", "/nowhere", "/sessions/"):
            headers = self.client.get(path).headers
            assert "microphone=(self)" in headers["Permissions-Policy"]
            assert "speaker-selection=(self)" in headers["Permissions-Policy"]
            assert "camera=()" in headers["Permissions-Policy"]
            assert headers["X-Frame-Options"] == "DENY"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "same-origin"
            assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert "'unsafe" not in headers["Content-Security-Policy"]

    def test_no_inline_script_or_style(self) -> None:
        for path in ("/", "/login/"):
            html = self.client.get(path).content.decode()
            assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>|<style|\sstyle=|\son\w+=", html)

    @override_settings(DEBUG=True)
    def test_debug_pages_can_be_read(self) -> None:
        assert "Content-Security-Policy" not in self.client.get("/nowhere").headers

    def test_health(self) -> None:
        response = self.client.get("/healthz")
        assert (response.status_code, response.content) == (200, b"ok")

    def test_health_is_told_under_any_name(self) -> None:
        """Load balancers call each machine by its own address, which is not among ALLOWED_HOSTS."""
        for host in ("10.0.0.7", "10.0.0.7:8000", "elsewhere.example", "no_host"):
            assert self.client.get("/healthz", headers={"Host": host}).content == b"ok"
            assert self.client.get("/", headers={"Host": host}).status_code == 400

    def test_health_without_the_database(self) -> None:
        def broken(*args: object) -> None:
            raise OperationalError("unable to open database file")

        with connection.execute_wrapper(broken), self.assertLogs("voicedemo", "ERROR"):
            response = self.client.get("/healthz")
        assert (response.status_code, response.content) == (503, b"the database cannot be reached")
