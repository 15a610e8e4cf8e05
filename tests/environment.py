"""An environment for the tests, and none of the developer's.

A pytest plugin (`-p` in pyproject.toml): pytest-django reads the settings before any conftest.py is loaded.
"""

import os

PREFIXES = ("VATEL_", "AGENT_LLM_", "SANDBOX_", "MAX_CALLS", "MAX_STARTS")
NAMES = {
    *("SECRET_KEY", "ALLOWED_HOSTS", "DEBUG", "HTTPS", "TRUST_PROXY", "CSRF_TRUSTED_ORIGINS"),
    *("DATABASE_PATH", "DATABASE_URL", "TIME_ZONE", "CALL_ACCESS", "CONSENT", "PORT"),
    *("KEEP_RECORDINGS", "RETENTION_DAYS", "REDACT", "REDACT_PATTERNS"),
}


def is_ours(name: str) -> bool:
    """Whether an environment variable configures this product."""
    return name in NAMES or name.startswith(PREFIXES)


for name in [name for name in os.environ if is_ours(name)]:
    del os.environ[name]
os.environ |= {
    "DEBUG": "1",
    "SECRET_KEY": "a key for tests, long enough and of many different characters 0123456789",
    "DATABASE_PATH": ":memory:",
    # Discard: nothing listens there, so a test that forgets its transport fails at once.
    "VATEL_BASE_URL": "http://127.0.0.1:9",
    "VATEL_API_KEY": "test-api-key-that-must-never-be-seen",
    "VATEL_AGENT_IDS": "5a1c0e5e-0000-4000-8000-000000000001",
    "VATEL_MEDIA_ORIGINS": "ws://127.0.0.1:7880",
}
# Set by `python -m tests.postgres run`: the same tests on a server that is there for them alone.
if "TEST_DATABASE_URL" in os.environ:
    os.environ["DATABASE_URL"] = os.environ["TEST_DATABASE_URL"]
