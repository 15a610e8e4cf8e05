"""Who may call: everybody, or who has an account; and what they have agreed to before."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, TestCase, override_settings

from sessions_app.models import VoiceSession
from sessions_app.situations import SITUATIONS

from .page import Page
from .platform import platform
from .sockets import AGENT

LOGIN = {"username": "ada", "password": "a long password 0123"}


def refused(response: Any, status: int, code: str) -> None:
    assert response.status_code == status
    assert response.json() == {"error": {"code": code, "message": SITUATIONS[code].sentence}}


# The usual hash takes a second by design.
@override_settings(CALL_ACCESS="login", PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"])
class LoginTests(TestCase):
    def setUp(self) -> None:
        User.objects.create_user(**LOGIN)
        self.enterContext(platform())

    def test_way_to_a_call_leads_through_the_login(self) -> None:
        for path in ("/", f"/agents/{AGENT}/"):
            browser = Client(enforce_csrf_checks=True)
            asked = browser.get(path, follow=True)
            assert asked.redirect_chain == [(f"/login/?next={path}", 302)]
            # The token of the form; enforce_csrf_checks makes it count.
            token = asked.context["csrf_token"]
            form = {**LOGIN, "next": path, "csrfmiddlewaretoken": str(token)}
            came = browser.post("/login/", form)
            assert (came.status_code, came.headers["Location"]) == (302, path)
            page = Page(path, browser)
            assert page.data("login-url") == f"/login/?next={path.replace('/', '%2F')}"
            assert page.start().status_code == 201
        assert {session.user.username for session in VoiceSession.objects.all() if session.user} == {"ada"}

    def test_who_is_logged_out_meanwhile_is_asked_to_log_in_again(self) -> None:
        page = Page(client=self.logged_in())
        page.client.logout()
        page.csrf = self.token_of(page.client)
        refused(page.start(), 401, "login_required")
        assert not VoiceSession.objects.exists()

    def test_login_leads_to_no_other_site(self) -> None:
        for target in (
            "https://elsewhere.example/",
            "//elsewhere.example/",
            "/\\elsewhere.example",
            "http:///elsewhere.example",
            "javascript:alert(1)",
        ):
            came = Client().post("/login/", {**LOGIN, "next": target})
            assert (came.status_code, came.headers["Location"]) == (302, "/")
            # Nor does the page of who is logged in already.
            passed = self.logged_in().get("/login/", {"next": target})
            assert (passed.status_code, passed.headers["Location"]) == (302, "/")

    def test_wrong_password_is_said_and_nothing_else(self) -> None:
        for wrong in (LOGIN | {"password": "x"}, LOGIN | {"username": "nobody"}):
            answer = Client().post("/login/", wrong)
            self.assertContains(answer, "Please enter a correct username and password")

    def test_logout_takes_a_click(self) -> None:
        browser = self.logged_in()
        assert browser.get("/logout/").status_code == 405
        assert browser.get("/").status_code == 200
        form = {"csrfmiddlewaretoken": Page(client=browser).csrf}
        assert browser.post("/logout/", form).headers["Location"] == "/"
        assert browser.get("/").headers["Location"] == "/login/?next=/"

    def test_log_of_a_call_takes_what_a_page_has_left_over(self) -> None:
        """Its owner is the visitor, and what was said must not be lost because a login has run out."""
        page = Page(client=self.logged_in())
        session = page.start().json()["session"]
        User.objects.update(is_active=False)
        frame = {"seq": 1, "at_ms": 5, "type": "speech_started", "data": {}}
        posted = page.client.post(
            f"/sessions/{session}/events/",
            {"frames": [frame]},
            content_type="application/json",
            headers={"X-CSRFToken": page.csrf},
        )
        assert posted.json() == {"ack": 1}

    def logged_in(self) -> Client:
        browser = Client(enforce_csrf_checks=True)
        browser.force_login(User.objects.get())
        return browser

    def token_of(self, browser: Client) -> str:
        return str(browser.get("/login/").context["csrf_token"])


@pytest.mark.django_db
def test_calls_need_no_account_unless_it_is_said() -> None:
    with platform():
        page = Page()
        assert page.data("login-url") == ""
        assert page.start().status_code == 201


class ConsentTests(TestCase):
    def setUp(self) -> None:
        self.enterContext(platform())

    def test_first_call_asks_and_later_ones_do_not(self) -> None:
        page = Page()
        assert "Agree and start talking" in page.html
        assert page.start().status_code == 201
        again = Page(client=page.client)
        assert "Agree and start talking" not in again.html
        assert again.consent == page.consent
        assert {session.consent_version for session in VoiceSession.objects.all()} == {page.consent}
        assert len(page.consent) == 12

    def test_no_call_without_the_word_or_with_an_older_one(self) -> None:
        page = Page()
        for consent in (
            {},
            {"consent": ""},
            {"consent": "0" * 12},
            {"consent": None},
            {"consent": [page.consent]},
        ):
            refused(page.mint({"agent_id": str(AGENT), **consent}), 409, "consent_required")
        assert not VoiceSession.objects.exists()
        assert "Agree and start talking" in Page(client=page.client).html

    def test_new_text_is_a_new_question(self) -> None:
        page = Page()
        assert page.start().status_code == 201
        other = [("sessions_app/_consent.html", "<p>All is told to everybody.</p>")]
        plain = {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "DIRS": ["templates"],
            "OPTIONS": {
                "loaders": [
                    ("django.template.loaders.locmem.Loader", dict(other)),
                    "django.template.loaders.filesystem.Loader",
                ]
            },
        }
        with override_settings(TEMPLATES=[plain]):
            refused(page.start(), 409, "consent_required")
            now = Page(client=page.client)
            assert "All is told to everybody." in now.html
            assert "Agree and start talking" in now.html
            assert now.consent != page.consent

    def test_agreement_outlives_a_call_that_could_not_be_made(self) -> None:
        page = Page()
        with platform(500):
            assert page.start().status_code == 502
        assert "Agree and start talking" not in Page(client=page.client).html

    @override_settings(CONSENT=False)
    def test_site_that_asks_for_nothing(self) -> None:
        page = Page()
        assert page.consent == ""
        assert "Agree" not in page.html
        assert page.mint({"agent_id": str(AGENT)}).status_code == 201
        assert VoiceSession.objects.get().consent_version == ""
