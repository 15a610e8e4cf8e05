"""The documents tell the truth: the same variables everywhere, and a map with no missing room."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def names_in(path: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, (ROOT / path).read_text(), re.MULTILINE))


def test_configuration_table_example_and_settings_name_the_same_variables() -> None:
    read = names_in(
        "voicedemo/settings.py",
        r"(?:env_\w+|_platform_\w+|_agent_ids|_media_origins|_sqlite|_postgresql)\(\s*\"([A-Z_]+)\"",
    )
    assert read
    assert names_in(".env.example", r"^#? ?([A-Z][A-Z_]+)=") == read
    assert names_in("README.md", r"^\| `([A-Z_]+)` \|") == read


def test_settings_are_the_only_reader_of_the_environment() -> None:
    files = [ROOT / "manage.py", *(ROOT / "voicedemo").glob("*.py"), *(ROOT / "sessions_app").rglob("*.py")]
    readers = {
        path.relative_to(ROOT).as_posix()
        for path in files
        if re.search(r"os\.(environ|getenv)", path.read_text())
    }
    # manage.py and asgi.py only name the settings module, as Django wants it.
    assert readers <= {"voicedemo/settings.py", "manage.py", "voicedemo/asgi.py"}


def test_site_and_sandbox_do_not_import_each_other() -> None:
    def imports(folder: str) -> set[str]:
        found = (path.read_text() for path in (ROOT / folder).rglob("*.py"))
        return {
            word for text in found for word in re.findall(r"^\s*(?:from|import) (\w+)", text, re.MULTILINE)
        }

    assert not imports("sandbox") & {"sessions_app", "voicedemo", "django"}
    assert "sandbox" not in imports("sessions_app") | imports("voicedemo")


def test_readmes_map_names_what_is_there() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tracked = set(listed.split())
    folders = {parent.as_posix() + "/" for path in tracked for parent in Path(path).parents}
    section = (ROOT / "README.md").read_text().split("## Map of the code")[1].split("\n## ")[0]
    named = set(re.findall(r"`([\w./-]+(?:\.\w+|/))`", section))
    assert named
    assert {name for name in named if name not in tracked | folders} == set()
    rooms = {path for path in tracked if re.fullmatch(r"sessions_app/[a-z_]+\.py", path)}
    obvious = {f"sessions_app/{name}.py" for name in ("__init__", "apps", "urls", "routing")}
    assert rooms - obvious - named == set()


def test_every_situation_is_described_as_it_is_and_has_a_test() -> None:
    catalogue = json.loads((ROOT / "sessions_app" / "situations.json").read_text())
    page = (ROOT / "sessions_app" / "frontend" / "talk-page.ts").read_text()
    actions = page.split("const ACTIONS = {")[1].split("}")[0]
    buttons = dict(re.findall(r'^  (\w+): "(.*)",$', actions, re.MULTILINE))
    document = (ROOT / "docs" / "situations.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in document.splitlines() if line.startswith("| `")]
    assert [row[:4] for row in rows] == [
        [
            f"`{code}`",
            situation["kind"],
            f"**{situation['title']}** {situation['sentence']}",
            buttons[situation["action"]] or "none",
        ]
        for code, situation in catalogue.items()
    ]
    assert [(row[0], row[-1]) for row in rows if row[0].strip("`") not in source_of(row[-1].strip("`"))] == []


def source_of(test: str) -> str:
    """Of "path::name", with its decorators; "" if there is no such test."""
    path, name = test.split("::")
    text = (ROOT / path).read_text()
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    return ""


def test_pictures_are_there() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert pictures
    assert [path for path in pictures if not (ROOT / path).exists()] == []
