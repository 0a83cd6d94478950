"""What CI runs, and that it cannot pass by leaving out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NO_TESTS = pytest.ExitCode.NO_TESTS_COLLECTED
LEFT_OUT = """
import pytest
@pytest.mark.system
def test_left_out(): pytest.skip("no server")
"""
LEFT_OUT_WHOLE = """
import pytest
pytest.skip("no emulator", allow_module_level=True)
pytestmark = pytest.mark.system
"""


@pytest.mark.parametrize(("required", "code"), [("all", 1), ("server,other", 1), ("other", 0), ("", 0)])
def test_a_required_system_test_that_would_skip_fails(tmp_path, required, code):
    run = _run(tmp_path, "test_server.py", LEFT_OUT, required)
    assert run.returncode == code, run.stdout
    assert "no server" in run.stdout


def test_a_required_file_of_system_tests_that_would_skip_fails(tmp_path):
    run = _run(tmp_path, "test_emulator.py", LEFT_OUT_WHOLE, "all")
    assert run.returncode != 0
    assert "no emulator" in run.stdout


@pytest.mark.parametrize("text", [LEFT_OUT, LEFT_OUT_WHOLE])
def test_what_is_no_system_test_may_be_left_out(tmp_path, text):
    lines = [line for line in text.splitlines() if "mark.system" not in line]
    assert _run(tmp_path, "test_server.py", "\n".join(lines), "all").returncode in (0, NO_TESTS)


def test_ci_runs_the_tests_and_requires_every_system_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    lines = script.read_text().splitlines()
    assert "set -euo pipefail" in lines
    left_out = re.findall(r"--deselect (\S+)::(\w+)\)", script.read_text())
    assert len(left_out) == 4  # where the machine forbids it, and only then
    assert all(f"def {name}(" in (ROOT / file).read_text() for file, name in left_out)
    assert lines[-2:] == ["make test", "EDGEPRUNE_REQUIRE=all make test-system"]


def test_make_help_lists_every_target():
    shown = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    listed = {line.split()[0] for line in shown.splitlines() if line.startswith("  ")}
    phony = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY"))
    assert listed == set(phony.split()[1:])


def test_make_refuses_a_python_that_is_too_old_with_one_clear_line(tmp_path):
    old = tmp_path / "python"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2 && exit\nexit 1\n')
    old.chmod(0o755)
    command = ["make", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}", "test"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "make: Python 3.11 or newer is needed" in run.stderr
    assert "is Python 3.9.2" in run.stderr


@pytest.mark.parametrize(
    ("recipe", "data", "code", "ends", "said"),
    [
        ("cnn-digits", "", 0, 0, ""),
        ("cnn-digits", "", 2, 2, ""),
        ("cnn-digits", "", 4, 0, "cnn-digits is left out, the line above says why"),
        ("cnn-digits", "", 5, 2, ""),
        ("resnet20-given", "", 2, 0, "resnet20-given is left out: EDGEPRUNE_DATA is not set"),
        ("resnet20-given", "data", 2, 2, ""),
    ],
)
def test_make_bench_leaves_out_what_lacks_something_and_fails_on_all_else(tmp_path, recipe, data, code, ends, said):
    edgeprune = tmp_path / "bin" / "edgeprune"
    edgeprune.parent.mkdir()
    edgeprune.write_text(f"#!/bin/sh\n[ $1 = bench ] || exit {code}\n")
    edgeprune.chmod(0o755)
    (tmp_path / ".ready").touch()
    command = ["make", f"VENV={tmp_path}", f"MODELS={recipe}", "bench"]
    environment = os.environ | {"EDGEPRUNE_DATA": data}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == ends  # make itself ends with 2 where a command fails
    assert said in run.stderr


def test_make_bench_takes_six_models_or_all_and_every_one_is_a_recipe(tmp_path):
    (tmp_path / ".ready").touch()
    seen = {}
    for models in ([], ["MODELS=all"]):
        command = ["make", "--dry-run", f"VENV={tmp_path}", *models, "bench"]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        listed = re.search(r"for recipe in ([^;]+);", run.stdout.replace("\\\n", " "))
        assert listed is not None
        seen[bool(models)] = listed[1].split()
    assert len(seen[False]) == 6
    assert set(seen[False]) < set(seen[True])
    recipes = {path.stem: path.read_text() for path in (ROOT / "recipes").glob("*.yaml")}
    assert set(seen[True]) <= recipes.keys()
    assert sum("name: digits" in recipes[one] for one in seen[False]) == 3


def _run(folder: Path, name: str, text: str, required: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    (folder / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", str(folder)]
    environment = os.environ | {"EDGEPRUNE_REQUIRE": required}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
