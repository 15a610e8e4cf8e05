"""Lighthouse's marks for a page on a phone, and what it finds missing.

The package is bench/package.json's, fetched on first use: 190 MB that no test needs. Not version 13, which
refuses Node 20.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e import browser as chromium

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
FLAGS = "--headless=new --no-sandbox --disable-gpu"
LIMIT_S = 300


@dataclass(frozen=True)
class Report:
    marks: dict[str, float]
    """0 to 100 for each of CATEGORIES."""
    missing: list[str]
    """A sentence for each audit that costs points."""


def audit(url: str) -> Report:
    """Raises subprocess.CalledProcessError when Lighthouse cannot be installed, or does not get through."""
    words = [
        url,
        "--quiet",
        "--output=json",
        f"--only-categories={','.join(CATEGORIES)}",
        f"--chrome-flags={FLAGS}",
    ]
    said = subprocess.run(
        [tool("node"), install() / "cli" / "index.js", *words],
        env={**os.environ, "CHROME_PATH": chromium.required()},
        stdout=subprocess.PIPE,
        check=True,
        timeout=LIMIT_S,
    ).stdout
    report = json.loads(said)
    if problem := report.get("runtimeError"):
        raise RuntimeError(f"Lighthouse could not look at {url}: {problem['message']}")
    marks = {name: 100 * report["categories"][name]["score"] for name in CATEGORIES}
    return Report(marks, [line for name in CATEGORIES for line in missing(report, name)])


def missing(report: dict[str, Any], category: str) -> list[str]:
    """What costs points in a category, and what it is about."""
    lines = []
    for reference in report["categories"][category]["auditRefs"]:
        audit = report["audits"][reference["id"]]
        score = audit["score"]
        if reference["weight"] and score is not None and score < 1:
            what = " ".join(text for text in (audit["title"], audit.get("displayValue", "")) if text)
            lines.append(
                f"{category}: {reference['id']} {score:g} of 1 (weight {reference['weight']}): {what}"
            )
    return lines


def install() -> Path:
    """Where the package is; fetched if the lock has changed, or there is none."""
    done, lock = MODULES / ".installed", HERE / "package-lock.json"
    if not done.exists() or done.stat().st_mtime < lock.stat().st_mtime:
        print("Installing Lighthouse into bench/node_modules (once; a minute or two) ...", file=sys.stderr)
        subprocess.run([tool("npm"), "ci", "--silent", "--no-audit", "--no-fund"], cwd=HERE, check=True)
        done.touch()
    return MODULES / "lighthouse"


def tool(name: str) -> str:
    return shutil.which(name) or sys.exit(f"Lighthouse needs {name} on PATH: Node 20 or newer brings it.")
