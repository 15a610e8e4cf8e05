"""Which browser the end-to-end tests drive, and how to get one.

python -m tests.e2e.browser [--install]      prints its path; --install gets one if there is none
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

VARIABLE = "PLAYWRIGHT_BROWSER_EXECUTABLE_PATH"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """The Chromium named by the environment, else on PATH, else Playwright's own; None if there is none.

    Raises SystemExit when the environment names a file that does not exist.
    """
    if named := os.environ.get(VARIABLE):
        if not Path(named).exists():
            sys.exit(f"{VARIABLE} names {named}, which does not exist.")
        return named
    for name in NAMES:
        if found := shutil.which(name):
            return found
    return playwrights_own()


def required() -> str:
    """What `find` finds. Raises SystemExit with a sentence when there is none."""
    return find() or sys.exit("No Chromium: run `python -m tests.e2e.browser --install`.")


def playwrights_own() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install() -> str:
    """Playwright's own Chromium, else the system's package. Raises SystemExit when neither can be had."""
    say("No Chromium found. Trying Playwright's own ...")
    subprocess.run(
        [sys.executable, "-m", "playwright", "install", "chromium"], stdout=sys.stderr, check=False
    )
    if found := find():
        return found
    if apt := shutil.which("apt-get"):
        say("That did not work here. Installing the system's chromium package ...")
        sudo = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
        for words in (["update", "-qq"], ["install", "-qq", "--yes", "--no-install-recommends", "chromium"]):
            subprocess.run([*sudo, apt, *words], stdout=sys.stderr, check=False)
        if found := find():
            return found
    sys.exit(f"The end-to-end tests need Chromium: install it, or name one by {VARIABLE}.")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    path = find() or (install() if "--install" in sys.argv[1:] else None)
    if not path:
        sys.exit("No Chromium found; --install gets one.")
    print(path)  # noqa: T201
