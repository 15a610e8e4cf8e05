"""The secrets of one sandbox: made at its first start, kept in its data folder, for its owner only."""

import json
import os
import secrets
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path


class KeysError(Exception):
    """The secrets cannot be used; the text is for the person at the terminal."""


@dataclass(frozen=True)
class Keys:
    """The organization's API key, LiveKit's key and secret, and the secret that signs session tokens."""

    api_key: str = field(repr=False)
    livekit_key: str = field(repr=False)
    livekit_secret: str = field(repr=False)  # LiveKit wants at least 32 bytes
    session_secret: str = field(repr=False)

    @classmethod
    def kept_in(cls, path: Path, api_key: str | None = None) -> "Keys":
        """Those in the file, made now if there is none. `api_key` goes before the kept one and is not kept.

        Raises KeysError, and OSError when the file can be neither read nor written.
        """
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise KeysError("SANDBOX_API_KEY must be of printable ASCII characters without spaces.")
        keys = cls._read(path) if path.exists() else cls._make(path)
        return replace(keys, api_key=api_key) if api_key else keys

    @classmethod
    def _read(cls, path: Path) -> "Keys":
        try:
            keys = cls(**json.loads(path.read_text()))
            if any(not isinstance(secret, str) or len(secret) < 32 for secret in asdict(keys).values()):
                raise ValueError("a secret is missing or too short")
        except (ValueError, TypeError) as problem:
            raise KeysError(f"{path} is damaged. Delete it, and new keys are made.") from problem
        return keys

    @classmethod
    def _make(cls, path: Path) -> "Keys":
        keys = cls(*(secrets.token_urlsafe(32) for _ in range(4)))
        aside = path.with_suffix(".new")
        aside.unlink(missing_ok=True)
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(keys), file)
        aside.rename(path)
        return keys
