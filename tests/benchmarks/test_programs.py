from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("name", ["pruning_methods", "training_time"])
def test_a_mistake_ends_with_two_and_one_line_as_in_the_program_itself(name, tmp_path):
    out = ["--out", str(tmp_path / "rows.jsonl")] if name == "pruning_methods" else []
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "cnn-cifar10-leest", *out]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert run.stderr.startswith("error: unknown recipe 'cnn-cifar10-leest': did you mean 'cnn-cifar10-least'?")


def test_torn_weights_are_not_kept(tmp_path):
    (tmp_path / "torn.safetensors").write_bytes(bytes(100))
    command = [sys.executable, str(BENCHMARKS / "keep_weights.py"), str(tmp_path / "torn.safetensors")]
    run = subprocess.run(
        [*command, "--recipe", "cnn-digits", "--scored", ""], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert "torn.safetensors: truncated, damaged or not safetensors" in run.stderr
    assert not (BENCHMARKS.parent / "bench_results" / "weights" / "cnn-digits.safetensors").exists()
