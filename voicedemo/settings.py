"""Every setting, and the only reader of the environment. .env.example tells what each variable means."""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from sessions_app import patterns

BASE_DIR = Path(__file__).resolve().parent.parent


def env_text(name: str, default: str | None = None, example: str = "") -> str:
    """A variable as it stands, trimmed; empty counts as missing. Without a default it must be given."""
    value = os.environ.get(name, "").strip() or default
    if value is None:
        raise ImproperlyConfigured(f"{name} is not set; give it a value, for example {name}={example}")
    return value


def env_flag(name: str, *, default: bool) -> bool:
    value = env_text(name, "1" if default else "0")
    if value not in ("0", "1"):
        raise ImproperlyConfigured(f"{name} must be 0 or 1, not {value!r}; for example {name}=1")
    return value == "1"


def env_choice(name: str, *choices: str) -> str:
    """One of several words; the first is the default."""
    value = env_text(name, choices[0])
    if value not in choices:
        raise ImproperlyConfigured(
            f"{name} must be {' or '.join(choices)}, not {value!r}; for example {name}={choices[0]}"
        )
    return value


def env_number(name: str, default: int, most: int = 999_999) -> int:
    """A number from 1 to `most`."""
    value = env_text(name, str(default))
    if not re.fullmatch(r"[1-9][0-9]{0,5}", value) or int(value) > most:
        raise ImproperlyConfigured(
            f"{name} must be a number from 1 to {most}, not {value!r}; for example {name}={default}"
        )
    return int(value)


def env_list(name: str, default: str | None = None, example: str = "") -> list[str]:
    """A comma-separated variable."""
    return [item.strip() for item in env_text(name, default, example).split(",") if item.strip()]


# Security

DEBUG = env_flag("DEBUG", default=False)
HTTPS = env_flag("HTTPS", default=not DEBUG)
TRUST_PROXY = env_flag("TRUST_PROXY", default=False)
SECRET_KEY = env_text(
    "SECRET_KEY",
    "for-development-only-anyone-can-read-this-key-in-the-source" if DEBUG else None,
    "a long random text that only this site knows",
)
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]" if DEBUG else None, "talk.example.com")
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS", "")
for origin in CSRF_TRUSTED_ORIGINS:
    # Django would take "*" for any sub-domain, the sockets' own check would not.
    if not re.fullmatch(r"https?://[^/\s*]+", origin):
        raise ImproperlyConfigured(
            f"CSRF_TRUSTED_ORIGINS holds {origin!r}, which is not an origin; "
            "for example CSRF_TRUSTED_ORIGINS=https://talk.example.com"
        )

SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$"]  # probes come over plain HTTP, from inside
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
# Sub-domains and the browsers' preload list concern other hosts, which are not this site's to decide about.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
if TRUST_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_NAME = "__Host-sessionid" if HTTPS else "sessionid"
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_NAME = "__Host-csrftoken" if HTTPS else "csrftoken"
CSRF_COOKIE_SECURE = HTTPS
CSRF_COOKIE_HTTPONLY = True  # pages read the token from their <meta name="csrf-token">
CSRF_FAILURE_VIEW = "sessions_app.views.csrf_failed"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024


# The voice platform


def _platform_url(name: str, default: str) -> str:
    url = env_text(name, default).rstrip("/")
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for one that is none
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ImproperlyConfigured(
            f"{name} must be an http(s) URL, not {url!r}; for example {name}={default}"
        )
    if parts.scheme == "http" and not DEBUG and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise ImproperlyConfigured(
            f"{name} is {url!r}, which would send the API key in the clear; "
            f"use https, for example {name}={default}"
        )
    return url


def _platform_key(name: str) -> str:
    key = env_text(name, "no-key-in-development" if DEBUG else None, "the API key of your organization")
    if not re.fullmatch(r"[!-~]+", key):  # anything else cannot travel in an HTTP header
        raise ImproperlyConfigured(
            f"{name} must be printable ASCII without blanks; copy it again from the platform"
        )
    return key


def _agent_ids(name: str) -> list[UUID]:
    example = "5a1c0e5e-0000-4000-8000-000000000001"
    ids: list[UUID] = []
    for text in env_list(name, None, example):
        try:
            ids.append(UUID(text))
        except ValueError:
            raise ImproperlyConfigured(
                f"{name} holds {text!r}, which is not a UUID; names come from the platform; "
                f"for example {name}={example}"
            ) from None
    if not ids:
        raise ImproperlyConfigured(f"{name} names no agent; for example {name}={example}")
    return list(dict.fromkeys(ids))


def _media_origins(name: str, default: str) -> list[str]:
    origins = env_list(name, default)
    for origin in origins:
        found = re.fullmatch(r"wss?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:([0-9]{1,5}))?", origin)
        if found is None or int(found[3] or 1) > 65535:
            raise ImproperlyConfigured(
                f"{name} holds {origin!r}, which is not ws(s)://host or ws(s)://host:port; "
                f"for example {name}={default}"
            )
    return origins


VATEL_BASE_URL = _platform_url("VATEL_BASE_URL", "https://api.vatel.ai")
VATEL_API_KEY = _platform_key("VATEL_API_KEY")
VATEL_AGENT_IDS = _agent_ids("VATEL_AGENT_IDS")
VATEL_MEDIA_ORIGINS = _media_origins("VATEL_MEDIA_ORIGINS", "wss://sip.vatel.ai")


# Who may call, and how much

CALL_ACCESS = env_choice("CALL_ACCESS", "public", "login")
CONSENT = env_flag("CONSENT", default=True)
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "talk"

MAX_CALLS = env_number("MAX_CALLS", 20)
MAX_CALLS_PER_VISITOR = env_number("MAX_CALLS_PER_VISITOR", 2)
MAX_CALLS_PER_ADDRESS = env_number("MAX_CALLS_PER_ADDRESS", 10)
MAX_STARTS = env_number("MAX_STARTS", 600)
MAX_STARTS_PER_VISITOR = env_number("MAX_STARTS_PER_VISITOR", 30)
MAX_STARTS_PER_ADDRESS = env_number("MAX_STARTS_PER_ADDRESS", 120)


# What staff listen to

KEEP_RECORDINGS = env_flag("KEEP_RECORDINGS", default=False)
# Where the SQLite file is, or would be: that place is private.
RECORDINGS = (BASE_DIR / env_text("DATABASE_PATH", "var/db.sqlite3")).parent / "recordings"


# What is kept of calls, and for how long


def env_kinds(name: str) -> tuple[str, ...]:
    kinds = env_list(name, "")
    for kind in kinds:
        if kind not in patterns.BUILT_IN:
            raise ImproperlyConfigured(
                f"{name} holds {kind!r}, which is none of {', '.join(patterns.BUILT_IN)}; "
                f"for example {name}=email,phone"
            )
    return tuple(dict.fromkeys(kinds))


def env_patterns(name: str) -> dict[str, str]:
    """By kind. The site's own words, so a file: .env is no place for backslashes."""
    path = env_text(name, "")
    if not path:
        return {}
    try:
        return patterns.read(BASE_DIR / path, taken=patterns.BUILT_IN)
    except patterns.PatternError as error:
        raise ImproperlyConfigured(
            f"{name}: {error}; for example {name}=redact.txt with a line customer = K-[0-9]{{6}}"
        ) from None


REDACT = env_kinds("REDACT")
REDACT_PATTERNS = env_patterns("REDACT_PATTERNS")
# Off: None. At most a hundred years, as there is no day before the first.
RETENTION_DAYS = env_number("RETENTION_DAYS", 90, 36_500) if env_text("RETENTION_DAYS", "") else None


# What our pages may load and reach

# In the form of Django 6, which has the middleware for it: the one here goes away with the upgrade.
SECURE_CSP = {
    "default-src": ["'none'"],
    "script-src": ["'self'"],
    "style-src": ["'self'"],
    "img-src": ["'self'"],
    "font-src": ["'self'"],
    # Both schemes of each: LiveKit opens a WebSocket and, to learn why one was refused, fetches as well.
    "connect-src": [
        "'self'",
        *(form for origin in VATEL_MEDIA_ORIGINS for form in (origin, origin.replace("ws", "http", 1))),
    ],
    "media-src": ["'self'"],
    "manifest-src": ["'self'"],
    "form-action": ["'self'"],
    "base-uri": ["'none'"],
    "frame-ancestors": ["'none'"],
    "object-src": ["'none'"],
}


# Application

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "sessions_app",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "voicedemo.middleware.browser_policies",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "voicedemo.middleware.health",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "voicedemo.urls"
ASGI_APPLICATION = "voicedemo.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# One process: a second one would need a layer that both can reach.
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


# Database


def _sqlite(name: str) -> dict[str, Any]:
    path = env_text(name, "var/db.sqlite3")
    if path != ":memory:":
        path = str(BASE_DIR / path)
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImproperlyConfigured(
                f"{name} is {path!r}, whose folder cannot be made ({error.strerror}); "
                f"for example {name}=/var/lib/voicedemo/db.sqlite3"
            ) from None
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "OPTIONS": {
            # IMMEDIATE: a transaction that reads and then writes waits its turn and never fails as "locked".
            "transaction_mode": "IMMEDIATE",
            "timeout": 5,
            # FULL: what is acknowledged to a page must survive a power cut. secure_delete: what is deleted is
            # overwritten in the file; few builds of SQLite do so of themselves.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON; "
            "PRAGMA journal_size_limit=67108864",
        },
    }


def _postgresql(name: str) -> dict[str, Any] | None:
    """None if it is not set. No error repeats any part of the value: it may be the password."""
    url = env_text(name, "")
    if not url:
        return None
    hint = f"for example {name}=postgres://voicedemo:password@127.0.0.1:5432/voicedemo"
    scheme = url.partition("://")[0]
    if scheme not in ("postgres", "postgresql"):
        raise ImproperlyConfigured(
            f"{name} must begin with postgres:// or postgresql://, {hint}; "
            "SQLite's file goes to DATABASE_PATH"
        )
    try:
        # Checks: a connection that the pool kept over a restart of the server costs nobody a request.
        database: dict[str, Any] = {**dj_database_url.parse(url, conn_health_checks=True)}
    except ValueError:
        raise ImproperlyConfigured(
            f"{name} is not a URL; write special characters of user and password as %XX, as %40 for @, {hint}"
        ) from None
    if not database["NAME"]:
        raise ImproperlyConfigured(f"{name} names no database, {hint}")
    if database["HOST"].startswith("/"):
        # The folder of a Unix socket, whose capital letters the parser loses as it does those of a host.
        host = re.sub(r":[0-9]*$", "", urlsplit(url).netloc.rpartition("@")[2])
        database["HOST"] = unquote(host)
    import psycopg  # only here: a site on SQLite does without its memory

    options = database.pop("OPTIONS", {})
    try:
        psycopg.conninfo.make_conninfo(**options)
    except psycopg.Error:
        raise ImproperlyConfigured(
            f"{name} has an option after the ? that PostgreSQL does not know; "
            f"for example {name}=postgres://…/voicedemo?sslmode=verify-full"
        ) from None
    database["OPTIONS"] = {
        "application_name": "voicedemo",
        "connect_timeout": 5,
        **options,
        # For each process. Whoever gets no connection within the time is told so, and does not wait for ever.
        "pool": {"min_size": 2, "max_size": 8, "timeout": 5},
    }
    return database


DATABASES = {"default": _postgresql("DATABASE_URL") or _sqlite("DATABASE_PATH")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{validator}"}
    for validator in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]


# Language and time

LANGUAGE_CODE = "en"
TIME_ZONE = env_text("TIME_ZONE", "UTC")
try:
    ZoneInfo(TIME_ZONE)
except (ZoneInfoNotFoundError, ValueError, OSError):
    raise ImproperlyConfigured(
        f"TIME_ZONE is {TIME_ZONE!r}, which this machine does not know; for example TIME_ZONE=Europe/Berlin"
    ) from None
USE_TZ = True


# Static files

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = DEBUG
WHITENOISE_AUTOREFRESH = DEBUG


# Logging: short lines on stderr, for a supervisor that adds the time itself

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        "django": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "sessions_app": {"level": "INFO"},
        "voicedemo": {"level": "INFO"},
    },
}
