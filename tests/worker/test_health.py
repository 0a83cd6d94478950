from __future__ import annotations

import json
import subprocess
import sys

from edgeprune.worker.health import health


def test_this_machine_tells_its_room_and_why_it_has_no_meter():
    found = json.loads(json.dumps(health([])))
    assert found["free_disk_bytes"] > 0
    assert found["free_memory_bytes"] > 0
    assert found["environment"]["cores"] >= 1
    assert (found["meter"], found["no_meter"]) == (None, "the target file names no meter")


def test_a_jetson_tells_its_power_mode(tmp_path, monkeypatch):
    tool = tmp_path / "nvpmodel"
    tool.write_text("#!/bin/sh\necho NV Power Mode: MAXN_SUPER\necho 2\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert health([])["power_mode"] == "MAXN_SUPER"


def test_a_machine_that_tells_nothing_is_described_all_the_same(tmp_path):
    found = health([], root=tmp_path)
    assert found["free_memory_bytes"] == 0
    assert found["power_mode"].startswith("governor ") or found["power_mode"]


def test_it_is_one_line_and_needs_no_numpy():
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['numpy'] = None\nimport runpy\n"
         "sys.argv = ['health', 'rapl']; runpy.run_module('edgeprune.worker.health', run_name='__main__')"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (line,) = done.stdout.splitlines()
    assert "environment" in json.loads(line)
