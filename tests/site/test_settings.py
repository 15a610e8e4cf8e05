"""The settings are safe by default, and what is missing or malformed is one clear sentence."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

SITE = {
    "SECRET_KEY": "k" * 25 + "0123456789abcdefghijklmnopqrstuvwxyz",
    "ALLOWED_HOSTS": "talk.example.com",
    "VATEL_API_KEY": "an-api-key",
    "VATEL_AGENT_IDS": "5a1c0e5e-0000-4000-8000-000000000001",
}

CAPS = {
    "MAX_CALLS": 20,
    "MAX_CALLS_PER_VISITOR": 2,
    "MAX_CALLS_PER_ADDRESS": 10,
    "MAX_STARTS": 600,
    "MAX_STARTS_PER_VISITOR": 30,
    "MAX_STARTS_PER_ADDRESS": 120,
}

# One process for all of them: it loads the settings once for each environment, and tells what they say.
LOADER = """
import json, os, runpy, sys, zoneinfo
from django.core.exceptions import ImproperlyConfigured

results = []
for environment in json.load(sys.stdin):
    os.environ = environment
    try:
        loaded = runpy.run_path(sys.argv[1])
        results.append({name: repr(value) for name, value in loaded.items() if name.isupper()})
    except ImproperlyConfigured as error:
        results.append(str(error))
print(json.dumps(results))
"""


def environment(folder: Path, **changes: str | None) -> dict[str, str]:
    """A production site's, with changes; None takes a variable away."""
    changed = {**SITE, "DATABASE_PATH": str(folder / "db.sqlite3"), **changes}
    return {name: value for name, value in changed.items() if value is not None}


def load(environments: list[dict[str, str]], cwd: Path = ROOT) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-c", LOADER, str(ROOT / "voicedemo/settings.py")],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=json.dumps(environments),
        capture_output=True,
        text=True,
        check=True,
    )
    results: list[Any] = json.loads(done.stdout)
    return results


def manage(folder: Path, *words: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], **environment(folder, **changes)}
    return subprocess.run(
        [sys.executable, "manage.py", *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )


WRONG: list[tuple[dict[str, str | None], str]] = [
    ({"SECRET_KEY": None}, "SECRET_KEY is not set"),
    ({"SECRET_KEY": " "}, "SECRET_KEY is not set"),
    ({"ALLOWED_HOSTS": None}, "ALLOWED_HOSTS is not set"),
    ({"VATEL_API_KEY": None}, "VATEL_API_KEY is not set"),
    ({"VATEL_API_KEY": "two words"}, "VATEL_API_KEY must be printable ASCII"),
    ({"VATEL_AGENT_IDS": None}, "VATEL_AGENT_IDS is not set"),
    ({"VATEL_AGENT_IDS": ","}, "VATEL_AGENT_IDS names no agent"),
    ({"VATEL_AGENT_IDS": "Concierge"}, "VATEL_AGENT_IDS holds 'Concierge', which is not a UUID"),
    ({"VATEL_AGENT_IDS": SITE["VATEL_AGENT_IDS"] + "=Concierge"}, "names come from the platform"),
    ({"VATEL_AGENT_IDS": SITE["VATEL_AGENT_IDS"] + ",7"}, "VATEL_AGENT_IDS holds '7'"),
    ({"CALL_ACCESS": "private"}, "CALL_ACCESS must be public or login, not 'private'"),
    ({"CONSENT": "no"}, "CONSENT must be 0 or 1, not 'no'"),
    ({"DEBUG": "yes"}, "DEBUG must be 0 or 1, not 'yes'"),
    ({"HTTPS": "on"}, "HTTPS must be 0 or 1, not 'on'"),
    ({"TRUST_PROXY": "2"}, "TRUST_PROXY must be 0 or 1, not '2'"),
    ({"CSRF_TRUSTED_ORIGINS": "talk.example.com"}, "CSRF_TRUSTED_ORIGINS holds 'talk.example.com'"),
    ({"CSRF_TRUSTED_ORIGINS": "https://*.example.com"}, "CSRF_TRUSTED_ORIGINS holds 'https://*.example.com'"),
    ({"DATABASE_PATH": "/dev/null/data/db.sqlite3"}, "DATABASE_PATH is '/dev/null/data/db.sqlite3'"),
    ({"DATABASE_URL": "sqlite:///hunter2"}, "DATABASE_URL must begin with postgres://"),
    ({"DATABASE_URL": "/var/lib/hunter2"}, "SQLite's file goes to DATABASE_PATH"),
    ({"DATABASE_URL": "postgresql://ada:hunter2@db:54321x/site"}, "DATABASE_URL is not a URL"),
    ({"DATABASE_URL": "postgres://ada:hunter2#!@db/site"}, "write special characters"),
    ({"DATABASE_URL": "postgres://ada:hunter2@[db/site"}, "DATABASE_URL is not a URL"),
    ({"DATABASE_URL": "postgres://ada:hunter2@db:5432"}, "DATABASE_URL names no database"),
    ({"DATABASE_URL": "postgres://ada:x@db/site?hunter2=1"}, "has an option after the ?"),
    ({"DATABASE_URL": "postgres://ada:hunter2@db/site?pool=true"}, "has an option after the ?"),
    ({"RETENTION_DAYS": "0"}, "RETENTION_DAYS must be a number from 1 to 36500, not '0'; for example"),
    ({"RETENTION_DAYS": "36501"}, "RETENTION_DAYS must be a number from 1 to 36500, not '36501'"),
    ({"RETENTION_DAYS": "a month"}, "RETENTION_DAYS must be a number"),
    ({"TIME_ZONE": "Mars/Base"}, "TIME_ZONE is 'Mars/Base'"),
    ({"TIME_ZONE": "../etc/passwd"}, "TIME_ZONE is '../etc/passwd'"),
    ({"VATEL_BASE_URL": "api.vatel.ai"}, "VATEL_BASE_URL must be an http(s) URL"),
    ({"VATEL_BASE_URL": "ftp://api.vatel.ai"}, "VATEL_BASE_URL must be an http(s) URL"),
    ({"VATEL_BASE_URL": "https://[api"}, "VATEL_BASE_URL must be an http(s) URL"),
    ({"VATEL_BASE_URL": "http://api.vatel.ai"}, "would send the API key in the clear"),
    ({"VATEL_MEDIA_ORIGINS": "sip.vatel.ai"}, "VATEL_MEDIA_ORIGINS holds 'sip.vatel.ai'"),
    ({"VATEL_MEDIA_ORIGINS": "wss://sip.vatel.ai/rtc"}, "VATEL_MEDIA_ORIGINS holds"),
    ({"VATEL_MEDIA_ORIGINS": "wss://a; script-src *"}, "VATEL_MEDIA_ORIGINS holds"),
    ({"VATEL_MEDIA_ORIGINS": "wss://a:99999"}, "VATEL_MEDIA_ORIGINS holds"),
]
for cap, default in CAPS.items():
    for wrong in ("many", "0", "-1", "1000000"):
        sentence = f"{cap} must be a number from 1 to 999999, not '{wrong}'; for example {cap}={default}"
        WRONG.append(({cap: wrong}, sentence))


def test_wrong_variable_is_one_sentence_that_names_it(tmp_path: Path) -> None:
    sentences = load([environment(tmp_path, **changes) for changes, _ in WRONG])
    for (changes, expected), sentence in zip(WRONG, sentences, strict=True):
        assert isinstance(sentence, str), changes
        assert expected in sentence
        assert "\n" not in sentence
        assert "for example " in sentence or "again" in sentence
    assert "two words" not in str(sentences)
    assert "hunter2" not in str(sentences)


def test_what_is_left_out_is_safe(tmp_path: Path) -> None:
    site, debug, local = load(
        [
            environment(tmp_path),
            environment(tmp_path, DEBUG="1", SECRET_KEY=None, ALLOWED_HOSTS=None, VATEL_API_KEY=None),
            environment(
                tmp_path,
                HTTPS="0",
                VATEL_BASE_URL="http://127.0.0.1:8100",
                VATEL_MEDIA_ORIGINS="ws://127.0.0.1:7880, wss://[::1]",
                TRUST_PROXY="1",
            ),
        ]
    )
    assert site["DEBUG"] == "False"
    for name in ("SECURE_SSL_REDIRECT", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE"):
        assert (site[name], debug[name], local[name]) == ("True", "False", "False")
    assert site["SESSION_COOKIE_NAME"] == "'__Host-sessionid'"
    assert site["VATEL_BASE_URL"] == "'https://api.vatel.ai'"
    assert "'wss://sip.vatel.ai', 'https://sip.vatel.ai'" in site["SECURE_CSP"]
    assert (
        "'ws://127.0.0.1:7880', 'http://127.0.0.1:7880', 'wss://[::1]', 'https://[::1]'"
        in local["SECURE_CSP"]
    )
    assert {cap: int(site[cap]) for cap in CAPS} == CAPS
    assert (site["CALL_ACCESS"], site["CONSENT"]) == ("'public'", "True")
    assert (site["RETENTION_DAYS"], site["REDACT"], site["REDACT_PATTERNS"]) == ("None", "()", "{}")
    assert "SECURE_PROXY_SSL_HEADER" not in site
    assert "SECURE_PROXY_SSL_HEADER" in local
    assert "Manifest" in site["STORAGES"]
    assert "Manifest" not in debug["STORAGES"]


def test_relative_database_path_counts_from_the_projects_folder(tmp_path: Path) -> None:
    path = ROOT / "build" / "here.sqlite3"
    (given,) = load([environment(tmp_path, DATABASE_PATH="build/here.sqlite3")], cwd=tmp_path)
    assert repr(str(path)) in given["DATABASES"]


def test_agents_are_offered_once_and_in_their_order(tmp_path: Path) -> None:
    ids = [f"5a1c0e5e-0000-4000-8000-00000000000{n}" for n in (2, 1, 2)]
    (given,) = load([environment(tmp_path, VATEL_AGENT_IDS=f"{ids[0]}, {ids[1].upper()},{ids[2]},")])
    assert given["VATEL_AGENT_IDS"] == f"[UUID('{ids[0]}'), UUID('{ids[1]}')]"


def test_postgresql_is_used_where_it_is_named(tmp_path: Path) -> None:
    urls = [
        "postgres://ada:p%40ss@db.example.com:5433/site?sslmode=verify-full&connect_timeout=2",
        "postgresql://ada@%2FVar%2FRun:5433/site",
        "postgres:///site?host=/Var/Run",
    ]
    loaded = load([environment(tmp_path / "unused", DATABASE_URL=url) for url in urls])
    tcp, folder, option = (ast.literal_eval(settings["DATABASES"])["default"] for settings in loaded)
    assert {key: tcp[key] for key in ("ENGINE", "USER", "PASSWORD", "HOST", "PORT", "NAME")} == {
        "ENGINE": "django.db.backends.postgresql",
        "USER": "ada",
        "PASSWORD": "p@ss",
        "HOST": "db.example.com",
        "PORT": 5433,
        "NAME": "site",
    }
    assert (tcp["OPTIONS"]["sslmode"], tcp["OPTIONS"]["connect_timeout"]) == ("verify-full", 2)
    # Django refuses to pool connections that are kept.
    assert (tcp["CONN_MAX_AGE"], tcp["CONN_HEALTH_CHECKS"], bool(tcp["OPTIONS"]["pool"])) == (0, True, True)
    assert (folder["HOST"], folder["PORT"]) == ("/Var/Run", 5433)
    assert (option["HOST"], option["OPTIONS"]["host"]) == ("", "/Var/Run")
    assert not (tmp_path / "unused").exists()


def test_password_of_the_database_is_in_no_error(tmp_path: Path) -> None:
    # Discard: nothing listens there.
    done = manage(tmp_path, "sweep", DATABASE_URL="postgres://ada:hunter2@127.0.0.1:9/site")
    assert done.returncode == 1
    assert "127.0.0.1" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_defaults_in_the_example_file_are_the_defaults(tmp_path: Path) -> None:
    example = (ROOT / ".env.example").read_text()
    defaults = dict(re.findall(r"^#([A-Z_]+)=(.*)$", example, re.MULTILINE))
    defaults["DATABASE_PATH"] = str(tmp_path / "db.sqlite3")
    without, given = load([environment(tmp_path), environment(tmp_path, **defaults)])
    assert given == without


def test_deployment_check_is_clean(tmp_path: Path) -> None:
    done = manage(tmp_path, "check", "--deploy", "--fail-level", "WARNING")
    assert (done.returncode, done.stderr) == (0, "")
    assert "no issues" in done.stdout


@pytest.mark.parametrize("words", [["check"], ["sweep"]])
def test_manage_says_the_sentence(tmp_path: Path, words: list[str]) -> None:
    done = manage(tmp_path, *words, VATEL_AGENT_IDS="Concierge")
    assert done.returncode == 1
    assert re.fullmatch(r"manage.py: VATEL_AGENT_IDS holds 'Concierge'.*\n", done.stderr)


def test_server_says_the_sentence(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], **environment(tmp_path, VATEL_API_KEY=None)}
    done = subprocess.run(
        [sys.executable, "-m", "daphne", "-p", "0", "voicedemo.asgi:application"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert re.fullmatch(r"voicedemo: VATEL_API_KEY is not set; .*\n", done.stderr)
