"""The commands that docs/ci.md and docs/reports.md show work as they say."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from edgeprune.cli.main import main

DOCS = Path(__file__).parents[2] / "docs"
(WORKFLOW,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "ci.md").read_text(encoding="utf-8"), re.DOTALL)
STEPS = yaml.safe_load(WORKFLOW)["jobs"]["compile"]["steps"]
IN_CI = [line for step in STEPS if (line := step.get("run", "")).startswith("edgeprune ")]
(SHOWN,) = re.findall(r"```sh\n(.*?)```", (DOCS / "reports.md").read_text(encoding="utf-8"), re.DOTALL)
OF_REPORTS = [line.partition("#")[0].strip() for line in SHOWN.splitlines()]
RECIPE = "model: cnn\ndata: {name: digits}\ntrain: {epochs: 20}\nprune: {pruner: none}\nquantize: {precision: int8}\n"


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """As a step of a workflow would."""
    environment = os.environ | {
        "EDGEPRUNE_CACHE": str(folder / "cache"),
        "GITHUB_STEP_SUMMARY": str(folder / "step-summary.md"),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
    }
    return subprocess.run(
        ["bash", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a recipe and, stored in it, the baseline's bundle; `edgeprune` is on the path."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "bin").mkdir()
    (folder / "bin" / "edgeprune").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m edgeprune "$@"\n')
    (folder / "bin" / "edgeprune").chmod(0o755)
    (folder / "recipe.yaml").write_text(RECIPE)
    done = run("edgeprune compile --recipe recipe.yaml --out baseline", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("line", [*IN_CI, *OF_REPORTS])
def test_every_command_that_is_shown_has_these_options(line):
    _, name, *arguments = shlex.split(line.partition("&&")[0])
    command = main.get_command(click.Context(main), name)
    command.make_context(name, arguments)


def test_the_workflow_gates_on_a_stored_baseline_and_on_budgets():
    text = "\n".join(IN_CI)
    assert re.search(r"edgeprune bench baseline build/new --compare --fail-if-slower \d", text)
    assert re.search(r"edgeprune compile .*--max-drop \d.*--max-size-mb \d", text)
    gates = [step for step in STEPS if "--fail-if-slower" in step.get("run", "") or "--max-drop" in step.get("run", "")]
    assert all("continue-on-error" not in step and "||" not in step["run"] for step in gates)


@pytest.mark.system
def test_the_steps_of_the_workflow_pass_where_nothing_got_worse(folder):
    for line in IN_CI:
        done = run(line, folder)
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert "| new | ort-int8" in (folder / "step-summary.md").read_text()


@pytest.mark.system
@pytest.mark.parametrize(
    ("step", "worse", "code"),
    [
        ("--max-size-mb 2", "--max-size-mb 0.01", 3),
        ("--recipe recipe.yaml", "--recipe nowhere.yaml", 2),
        ("bench baseline build/new", "bench baseline:ort-fp32 baseline:openvino-fp32", 3),
    ],
)
def test_a_step_fails_with_the_code_that_the_page_says(folder, step, worse, code):
    (line,) = [line for line in IN_CI if step in line]
    done = run(line.replace(step, worse).replace("build/new", "build/worse"), folder)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.system
def test_what_the_page_about_reports_shows_works(folder):
    (folder / "build").mkdir(exist_ok=True)
    for command in ("cp -r baseline build/cnn-cpu", "edgeprune bench baseline", *OF_REPORTS):
        done = run(command, folder)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert {"report.html", "all.md", "all.csv", "all-1.csv"} <= {path.name for path in folder.iterdir()}
