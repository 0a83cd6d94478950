"""What the README shows works: its commands are run, in order, in one folder, with its files."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.removeprefix("$ ") for block in BLOCKS for line in block.splitlines() if line.startswith("$ ")]
OF_EDGEPRUNE = [command for command in COMMANDS if command.startswith("edgeprune ")]
NEEDS_A_BUNDLE = ("bench", "report", "show", "diff", "run")
ONE_AFTER_THE_OTHER = ("compile", "train", "prune", "export", "quantize", "lower", *NEEDS_A_BUNDLE)
LONG = tuple(f"edgeprune {name}" for name in ONE_AFTER_THE_OTHER)


def run(command: list[str], folder: Path, cache: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"EDGEPRUNE_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(command)}: {done.stderr}"
    return done.stdout


def edgeprune(command: str) -> list[str]:
    return [sys.executable, "-m", *shlex.split(command)]


def files() -> dict[str, str]:
    """The Python files that the README shows, by the name that stands before them."""
    return dict(re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)```", README, re.DOTALL))


def test_the_readme_shows_the_two_commands_first():
    assert COMMANDS[:2] == ["make compile", "make test"]


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make ")])
def test_every_make_target_that_is_shown_is_there(command):
    run(["make", "--dry-run", *command.split()[1:]], ROOT, ROOT)


@pytest.mark.parametrize("command", [command for command in OF_EDGEPRUNE if not command.startswith(LONG)])
def test_a_short_command_works(command, tmp_path):
    assert run(edgeprune(command), tmp_path, tmp_path)


@pytest.mark.parametrize(
    "page", ["README.md", "CHANGELOG.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_to_files_that_are_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    assert not missing


@pytest.mark.system
def test_the_long_commands_work_one_after_the_other(tmp_path):
    written = files()
    assert set(written) == {"net.py", "use.py"}
    for name, text in written.items():
        (tmp_path / name).write_text(text)
    for command in OF_EDGEPRUNE:
        run(edgeprune(command), tmp_path, tmp_path / "cache")
    assert re.fullmatch(r"\d\n", run([sys.executable, "use.py"], tmp_path, tmp_path / "cache"))
    assert (tmp_path / "build" / "all.html").is_file()


@pytest.mark.system
def test_make_compile_works(tmp_path):
    if not (ROOT / ".venv" / ".ready").is_file():
        pytest.skip("the environment was not made by `make`")
    shown = run(["make", "compile"], ROOT, tmp_path)
    assert "ort-int8" in shown
    assert (ROOT / "build" / "cnn-cpu" / "report.html").is_file()
