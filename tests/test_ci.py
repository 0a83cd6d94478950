"""What CI runs, and that it cannot pass by leaving out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEFT_OUT = """
import pytest
def test_left_out(): pytest.skip("no server")
"""
LEFT_OUT_WHOLE = """
import pytest
pytest.skip("no emulator", allow_module_level=True)
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


def test_ci_runs_the_tests_and_requires_every_system_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    lines = script.read_text().splitlines()
    assert "set -euo pipefail" in lines
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


def _run(folder: Path, name: str, text: str, required: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(ROOT / "tests" / "system" / "conftest.py", folder)
    (folder / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", str(folder)]
    environment = os.environ | {"EDGEPRUNE_REQUIRE": required}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
