"""A PostgreSQL server of our own, in a folder, next to whatever else runs on the machine.

    python -m tests.postgres run -- COMMAND

runs a command with TEST_DATABASE_URL naming such a server, or says that there is no PostgreSQL here.
"""

from __future__ import annotations

import getpass
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

PATIENCE_S = 60
USER = "voicedemo"


def find() -> Path | None:
    """The folder with `initdb` and `postgres`: on PATH, else the newest in the usual places."""
    on_path = shutil.which("initdb")
    places = [Path(on_path).resolve().parent] if on_path else []
    for root, pattern in (
        ("/usr/lib/postgresql", "*/bin"),  # Debian: on nobody's PATH
        ("/usr", "pgsql-*/bin"),
        ("/opt/homebrew/opt", "postgresql*/bin"),
    ):
        places += sorted(Path(root).glob(pattern), key=_version, reverse=True)
    return next(
        (place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None
    )


def _version(folder: Path) -> int:
    return int((re.findall(r"\d+", folder.parent.name) or ["0"])[0])


@dataclass
class Postgres:
    """One server with its data; it answers on a Unix socket in its folder only."""

    binaries: Path
    folder: Path
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def url(self, name: str = "voicedemo") -> str:
        """The address of a database, as for DATABASE_URL; it is made when it is asked for first."""
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(f'CREATE DATABASE "{name}"')
        return self._url(name)

    def start(self) -> None:
        """Start unless it runs, and wait until it takes connections; after a crash it recovers first."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            if self.process is None or self.process.poll() is not None:
                self.process = self._spawn()
            try:
                psycopg.connect(self._url("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    log = self.log.read_text(errors="replace")
                    raise RuntimeError(f"PostgreSQL did not start ({error}):\n{log}") from error
                time.sleep(0.1)

    def _spawn(self) -> subprocess.Popen[bytes]:
        words = ["-D", str(self.folder / "data"), "-k", str(self.folder), "-c", "listen_addresses="]
        words += [word for option in self.options for word in ("-c", option)]
        with self.log.open("ab") as output:
            return subprocess.Popen(
                [str(self.binaries / "postgres"), *words],
                stdout=output,
                stderr=output,
                # Ctrl-C is for whoever runs this; the server ends when they are done with it.
                start_new_session=True,
                **_as_somebody(self.folder),
            )

    def crash(self) -> None:
        """As `pg_ctl stop -m immediate` does: nothing more is written, the next start recovers by the WAL."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """End it in good order, whoever is connected."""
        self._end(signal.SIGINT)

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _url(self, name: str) -> str:
        return f"postgres://{USER}@{quote(str(self.folder), safe='')}/{name}"


@contextmanager
def start(folder: Path, *options: str) -> Iterator[Postgres]:
    """Make and run a server whose data, socket and log are in `folder`. `options` as in postgresql.conf.

    Raises RuntimeError, with a sentence, where there are no binaries or it does not start.
    """
    binaries = find()
    if binaries is None:
        raise RuntimeError("There is no PostgreSQL on this machine: install it, or put its `initdb` on PATH.")
    if len(str(folder)) > 80:  # a Unix socket's path has at most 107 characters, on macOS 103
        raise RuntimeError(f"The name of the folder {folder} is too long for a server's socket.")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _hand_over(folder)
    initdb = [str(binaries / "initdb"), "-D", str(folder / "data"), "-U", USER]
    made = subprocess.run(
        [*initdb, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"],
        capture_output=True,
        text=True,
        **_as_somebody(folder),
    )
    if made.returncode:
        raise RuntimeError(f"initdb failed:\n{made.stdout}{made.stderr}")
    server = Postgres(binaries, folder, options)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _hand_over(folder: Path) -> None:
    """PostgreSQL refuses to run as root: the folder then belongs to an account that it does run as."""
    if os.geteuid():
        return
    known = {entry.pw_name for entry in pwd.getpwall()}
    account = pwd.getpwnam("postgres" if "postgres" in known else "nobody")
    os.chown(folder, account.pw_uid, account.pw_gid)
    # Temporary folders are closed to all but their owner: let the account pass through, and see nothing.
    temporary = Path(tempfile.gettempdir()).resolve()
    for parent in folder.resolve().parents:
        if not parent.stat().st_mode & 0o001:
            if temporary not in parent.parents:
                raise RuntimeError(f"{folder.owner()} cannot enter {parent}: choose another folder.")
            parent.chmod(parent.stat().st_mode | 0o011)


def _as_somebody(folder: Path) -> dict[str, Any]:
    """How a child process is run: as the folder's owner, with nothing of PG* from our environment."""
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    if folder.owner() == getpass.getuser() or os.geteuid():
        return {"env": env, "cwd": folder}
    return {"env": env, "cwd": folder, "user": folder.owner(), "group": folder.group(), "extra_groups": []}


def main() -> None:
    if sys.argv[1:3] != ["run", "--"] or not sys.argv[3:]:
        sys.exit("python -m tests.postgres run -- COMMAND")
    if find() is None:
        sys.stderr.write("No PostgreSQL on this machine: what needs it is skipped.\n")
        return
    with tempfile.TemporaryDirectory() as folder, start(Path(folder) / "postgresql") as server:
        env = {**os.environ, "TEST_DATABASE_URL": server.url()}
        status = subprocess.run(sys.argv[3:], env=env).returncode
    sys.exit(status)


if __name__ == "__main__":
    main()
